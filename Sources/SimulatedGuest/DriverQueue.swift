public import GuestRAM

/// The driver side of a split virtqueue (2.7): makes buffers available and takes them back used.
///
/// Nothing is kept here but where the queue is: every index lives in guest memory, so a guest restored from its memory
/// goes on where it was. What the device writes is checked like any other input.
public struct DriverQueue: Sendable {
  /// What was negotiated of the ring.
  public struct Options: Equatable, Sendable {
    /// `VIRTIO_F_EVENT_IDX`
    public var eventIndex: Bool
    /// `VIRTIO_F_INDIRECT_DESC`
    public var indirectDescriptors: Bool
    /// `VIRTIO_F_IN_ORDER`
    public var inOrder: Bool

    public init(eventIndex: Bool = false, indirectDescriptors: Bool = false, inOrder: Bool = false) {
      self.eventIndex = eventIndex
      self.indirectDescriptors = indirectDescriptors
      self.inOrder = inOrder
    }
  }

  /// A buffer that the device has given back.
  public struct Used: Equatable, Sendable {
    /// What it was added with.
    public var token: UInt32
    /// The bytes that the device says it wrote.
    public var byteCount: UInt32
  }

  /// Queue Size.
  public let size: UInt16
  let options: Options
  let memory: GuestMemory
  let ring: DriverRing
  let cells: Cells<DriverQueueCell>

  /// The bytes that a queue and what its driver notes about it take in guest memory.
  public static func byteCount(size: UInt16) -> UInt64 {
    DriverRing.byteCount(size: size)
  }

  /// The queue at an address where `format` was called once.
  ///
  /// - Parameters:
  ///   - size: a power of two up to 32768.
  ///   - address: a multiple of 16, with `byteCount(size:)` bytes behind it.
  public init(at address: GuestAddress, size: UInt16, options: Options, memory: GuestMemory) throws(GuestError) {
    guard size.nonzeroBitCount == 1 else { throw .damaged(field: "queue size", value: UInt64(size)) }
    guard address.rawValue % 16 == 0 else { throw .damaged(field: "queue address", value: address.rawValue) }
    self.size = size
    self.options = options
    self.memory = memory
    ring = DriverRing(size: size, descriptors: address)
    cells = Cells(memory: memory, base: ring.cells)
  }

  /// The descriptor area, for the device.
  public var descriptorTable: GuestAddress { ring.descriptors }
  /// The driver area, for the device.
  public var availableRing: GuestAddress { ring.available }
  /// The device area, for the device.
  public var usedRing: GuestAddress { ring.used }

  /// Writes an empty queue, with every descriptor free.
  public func format() throws(GuestError) {
    try memory.store(
      bytes: [UInt8](repeating: 0, count: Int(Self.byteCount(size: size))), at: ring.descriptors)
    for index in 0..<size { try setNext(index &+ 1, of: index) }
    try cells.set(.freeCount, UInt64(size))
  }

  /// How many descriptors are free.
  public func freeCount() throws(GuestError) -> UInt16 {
    UInt16(truncatingIfNeeded: try cells.get(.freeCount))
  }

  /// How many buffers the device has, or will have with the next `publish`.
  public func outstandingCount() throws(GuestError) -> UInt16 {
    try index(.nextAvailable) &- index(.lastUsed)
  }

  func index(_ cell: DriverQueueCell) throws(GuestError) -> UInt16 {
    UInt16(truncatingIfNeeded: try cells.get(cell))
  }

  func setNext(_ next: UInt16, of descriptor: UInt16) throws(GuestError) {
    try memory.store(next, at: ring.descriptor(descriptor, in: ring.descriptors) + 14)
  }
}

extension DriverQueue {
  /// Adds a buffer, which the device sees with the next `publish`.
  ///
  /// - Parameters:
  ///   - readable: what the device may read.
  ///   - writable: what the device may write, behind it.
  ///   - token: what `takeUsed` returns it with.
  ///   - indirectTable: 16 bytes for each piece, the driver's until the buffer is used; taken if negotiated.
  /// - Returns: false when too few descriptors are free; nothing was added then.
  public func add(
    readable: [GuestBuffer], writable: [GuestBuffer], token: UInt32, indirectTable: GuestAddress? = nil
  ) throws(GuestError) -> Bool {
    let count = readable.count + writable.count
    let isIndirect = indirectTable != nil && options.indirectDescriptors && count > 1
    guard count > 0, try Int(freeCount()) >= (isIndirect ? 1 : count) else { return false }

    let head = try index(.freeHead)
    if isIndirect, let table = indirectTable {
      try fillIndirect(table, readable, writable)
      try write(
        GuestBuffer(address: table, byteCount: 16 * count), RingBit.indirect, at: head, in: ring.descriptors)
      try take(1, upTo: head)
    } else {
      try fillDirect(head, readable, writable)
    }

    let capacity = min(writable.reduce(0) { $0 &+ UInt64($1.byteCount) }, Self.outstandingBit - 1)
    try cells.set(.token(head), UInt64(token) | (capacity | Self.outstandingBit) << 32)
    let next = try index(.nextAvailable)
    try memory.store(head, at: ring.availableEntry(next))
    try cells.set(.nextAvailable, UInt64(next &+ 1))
    return true
  }

  /// In the high half of a token cell: the device has the chain. The rest of that half is its capacity in bytes.
  static var outstandingBit: UInt64 { 1 << 31 }

  private func fillDirect(
    _ head: UInt16, _ readable: [GuestBuffer], _ writable: [GuestBuffer]
  ) throws(GuestError) {
    var descriptor = head
    var left = readable.count + writable.count
    for (buffers, flag) in [(readable, 0 as UInt16), (writable, RingBit.write)] {
      for buffer in buffers {
        left -= 1
        try write(buffer, left == 0 ? flag : flag | RingBit.next, at: descriptor, in: ring.descriptors)
        if left > 0 { descriptor = try next(of: descriptor) }
      }
    }
    try take(UInt16(readable.count + writable.count), upTo: descriptor)
  }

  private func fillIndirect(
    _ table: GuestAddress, _ readable: [GuestBuffer], _ writable: [GuestBuffer]
  ) throws(GuestError) {
    let last = UInt16(readable.count + writable.count - 1)
    for (index, buffer) in (readable + writable).enumerated() {
      let flag = index < readable.count ? 0 : RingBit.write
      let number = UInt16(index)
      try write(buffer, number == last ? flag : flag | RingBit.next, at: number, in: table)
      try memory.store(number == last ? 0 : number + 1, at: ring.descriptor(number, in: table) + 14)
    }
  }

  /// Writes all of a descriptor but `next`, which threads the free list and the chain alike.
  private func write(
    _ buffer: GuestBuffer, _ flags: UInt16, at index: UInt16, in table: GuestAddress
  ) throws(GuestError) {
    let place = ring.descriptor(index, in: table)
    try memory.store(buffer.address.rawValue, at: place)
    try memory.store(UInt32(truncatingIfNeeded: buffer.byteCount), at: place + 8)
    try memory.store(flags, at: place + 12)
  }

  func next(of descriptor: UInt16) throws(GuestError) -> UInt16 {
    let next = try memory.load(UInt16.self, at: ring.descriptor(descriptor, in: ring.descriptors) + 14)
    guard next <= size else { throw .damaged(field: "next descriptor", value: UInt64(next)) }
    return next
  }

  /// Takes descriptors off the free list, whose first ones are those just written.
  private func take(_ count: UInt16, upTo last: UInt16) throws(GuestError) {
    try cells.set(.freeHead, UInt64(try next(of: last)))
    try cells.set(.freeCount, UInt64(try freeCount() &- count))
  }
}
