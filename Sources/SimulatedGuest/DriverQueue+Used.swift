import GuestRAM

/// What comes back, and who tells whom when.
extension DriverQueue {
  /// Lets the device see what was added, and decides whether it wants to be told (2.7.13).
  ///
  /// - Returns: whether to notify the device.
  public func publish() throws(GuestError) -> Bool {
    let new = try index(.nextAvailable)
    let old = try index(.notified)
    guard new != old else { return false }
    try memory.storeIndex(new, at: ring.availableIndex)
    try cells.set(.notified, UInt64(new))
    // The index must be out before the device's wish is read, or both sides wait for each other (2.7.13.4).
    GuestMemory.fullBarrier()
    guard options.eventIndex else {
      return try memory.load(UInt16.self, at: ring.usedFlags) & RingBit.noNotify == 0
    }
    let event = try memory.load(UInt16.self, at: ring.availableEvent)
    return new &- event &- 1 < new &- old
  }

  /// Takes the next buffer that the device has given back, or nil when there is none.
  public func takeUsed() throws(GuestError) -> Used? {
    let last = try index(.lastUsed)
    let used = try memory.loadIndex(at: ring.usedIndex)
    guard used != last else { return nil }
    let outstanding = try index(.notified) &- last
    guard used &- last <= outstanding else {
      throw .device(.usedIndexTooFarAhead(used: used, last: last, outstanding: outstanding))
    }
    if options.inOrder { return try takeInOrder(last) }
    let place = ring.usedEntry(last)
    let head = try memory.load(UInt32.self, at: place)
    return try finish(head, byteCount: try memory.load(UInt32.self, at: place + 4), last)
  }

  /// With `VIRTIO_F_IN_ORDER` one used entry may stand for a batch: it lies in the slot of the first, names the last, and
  /// all before the last were written completely (2.7.9).
  private func takeInOrder(_ last: UInt16) throws(GuestError) -> Used {
    if try cells.get(.batchEnd) == 0 {
      let place = ring.usedEntry(last)
      try cells.set(.batchEnd, UInt64(try memory.load(UInt32.self, at: place)) + 1)
      try cells.set(.batchWritten, UInt64(try memory.load(UInt32.self, at: place + 4)))
    }
    let end = UInt32(truncatingIfNeeded: try cells.get(.batchEnd) &- 1)
    let head = UInt32(try memory.load(UInt16.self, at: ring.availableEntry(last)))
    guard head != end else {
      try cells.set(.batchEnd, 0)
      return try finish(head, byteCount: UInt32(truncatingIfNeeded: try cells.get(.batchWritten)), last)
    }
    let used = try memory.loadIndex(at: ring.usedIndex)
    guard used != last &+ 1 else { throw .device(.batchWithoutEnd(head: end)) }
    return try finish(head, byteCount: nil, last)
  }

  /// - Parameter byteCount: what the device wrote, or nil for all of the buffer.
  private func finish(_ id: UInt32, byteCount: UInt32?, _ last: UInt16) throws(GuestError) -> Used {
    guard let head = UInt16(exactly: id), head < size else {
      throw .device(.usedHeadOutOfRange(head: id, size: size))
    }
    let token = try cells.get(.token(head))
    guard token >> 32 & Self.outstandingBit != 0 else { throw .device(.usedHeadNotOutstanding(head: id)) }
    let capacity = UInt32(truncatingIfNeeded: token >> 32 & ~Self.outstandingBit)
    guard byteCount ?? 0 <= capacity else {
      throw .device(.usedTooLong(head: id, byteCount: byteCount ?? 0, capacity: capacity))
    }
    try cells.set(.token(head), 0)
    try release(head)
    try cells.set(.lastUsed, UInt64(last &+ 1))
    return Used(token: UInt32(truncatingIfNeeded: token), byteCount: byteCount ?? capacity)
  }

  /// Puts a chain's descriptors back in front of the free list. Those of an indirect table are not in it.
  private func release(_ head: UInt16) throws(GuestError) {
    var last = head
    var count: UInt16 = 1
    while try hasNext(last), count < size {
      last = try next(of: last)
      count += 1
    }
    try setNext(try index(.freeHead), of: last)
    try cells.set(.freeHead, UInt64(head))
    try cells.set(.freeCount, UInt64(try freeCount() &+ count))
  }

  private func hasNext(_ descriptor: UInt16) throws(GuestError) -> Bool {
    try memory.load(UInt16.self, at: ring.descriptor(descriptor, in: ring.descriptors) + 12) & RingBit.next != 0
  }
}

extension DriverQueue {
  /// Asks the device not to interrupt while the driver looks at the used ring anyway (2.7.7).
  public func suppressInterrupts() throws(GuestError) {
    guard options.eventIndex else { return try memory.store(RingBit.noInterrupt, at: ring.availableFlags) }
    // An index just passed is the farthest from being reached again.
    try memory.store(try index(.lastUsed) &- 1, at: ring.usedEvent)
  }

  /// Asks the device to interrupt with the next buffer that it uses.
  ///
  /// - Returns: whether buffers were used in the meantime, for which no interrupt may come.
  public func requestInterrupts() throws(GuestError) -> Bool {
    let last = try index(.lastUsed)
    if options.eventIndex {
      try memory.store(last, at: ring.usedEvent)
    } else {
      try memory.store(0 as UInt16, at: ring.availableFlags)
    }
    GuestMemory.fullBarrier()
    return try memory.loadIndex(at: ring.usedIndex) != last
  }
}
