import GuestRAM

/// What the device gave back, and what both sides say of notifications (2.7.6 to 2.7.10).
extension RingFixture {
  /// The used index in memory.
  public var publishedUsedIndex: UInt16 {
    get throws { try memory.acquire(at: usedRing.offset(2)) }
  }

  /// An element of the used ring as it stands, published or not.
  public func usedElement(slot: UInt16) throws -> UsedElement {
    let element = usedRing.offset(4 + 8 * UInt64(slot))
    return try UsedElement(
      id: memory.read(UInt32.self, at: element), byteCount: memory.read(UInt32.self, at: element.offset(4)))
  }

  /// Takes the next element that the device published, and frees its descriptors; nil when there is none.
  public mutating func takeUsed() throws -> UsedElement? {
    guard try publishedUsedIndex != usedIndex else { return nil }
    let element = try usedElement(slot: usedIndex % size)
    usedIndex &+= 1
    free(element.id)
    return element
  }

  /// Takes all elements that the device published.
  public mutating func takeAllUsed() throws -> [UsedElement] {
    var elements: [UsedElement] = []
    while let element = try takeUsed() { elements.append(element) }
    return elements
  }

  /// Takes one element with `VIRTIO_F_IN_ORDER`: it stands for all chains added before it too (2.7.9).
  ///
  /// - Returns: the heads that it stands for, in order, and the length that it has for the last of them; nil when there is
  ///   none.
  public mutating func takeUsedInOrder() throws -> (heads: [UInt16], byteCount: UInt32)? {
    guard try publishedUsedIndex != usedIndex else { return nil }
    let element = try usedElement(slot: usedIndex % size)
    guard let position = heads.firstIndex(where: { UInt32($0) == element.id }) else { return ([], element.byteCount) }
    let run = Array(heads[...position])
    for head in run { free(UInt32(head)) }
    usedIndex &+= UInt16(run.count)
    return (run, element.byteCount)
  }

  private mutating func free(_ id: UInt32) {
    guard let head = UInt16(exactly: id), let indices = chains.removeValue(forKey: head) else { return }
    freeDescriptors.append(contentsOf: indices)
    if let position = heads.firstIndex(of: head) { heads.remove(at: position) }
  }
}

extension RingFixture {
  /// `VIRTQ_AVAIL_F_NO_INTERRUPT` in the available ring's flags (2.7.7).
  public func setInterruptsUnwanted(_ areUnwanted: Bool) throws {
    try memory.write(UInt16(areUnwanted ? 1 : 0), at: availableRing)
  }

  /// `used_event`, behind the available ring (2.7.7).
  public func setUsedEvent(_ index: UInt16) throws {
    try memory.write(index, at: availableRing.offset(4 + 2 * UInt64(size)))
  }

  /// The used ring's flags; bit 0 is `VIRTQ_USED_F_NO_NOTIFY` (2.7.10).
  public var usedFlags: UInt16 {
    get throws { try memory.read(UInt16.self, at: usedRing) }
  }

  /// `avail_event`, behind the used ring (2.7.10).
  public var availableEvent: UInt16 {
    get throws { try memory.read(UInt16.self, at: usedRing.offset(4 + 8 * UInt64(size))) }
  }

  /// Whether the device wants a kick for what was published since `old` (2.7.10). Orders the stores before.
  public func wantsKick(since old: UInt16, eventIndex: Bool) throws -> Bool {
    GuestMemory.fullBarrier()
    guard eventIndex else { return try usedFlags & 1 == 0 }
    return try availableIndex &- availableEvent &- 1 < availableIndex &- old
  }
}
