public import GuestRAM

/// The driver's side of one split ring, for unit tests.
///
/// Its offsets and flags are written down here from the specification and not taken from the device: if both sides shared
/// them, a wrong one would pass. It keeps the rules only as far as its caller asks it to, so that tests can break them.
public struct RingFixture: Sendable {
  /// A buffer that the driver makes available.
  public struct Buffer: Equatable, Sendable {
    public var address: GuestAddress
    public var byteCount: UInt32
    public var isWritable: Bool

    public init(address: GuestAddress, byteCount: UInt32, isWritable: Bool) {
      self.address = address
      self.byteCount = byteCount
      self.isWritable = isWritable
    }

    public static func readable(_ address: UInt64, _ byteCount: UInt32) -> Buffer {
      Buffer(address: GuestAddress(address), byteCount: byteCount, isWritable: false)
    }

    public static func writable(_ address: UInt64, _ byteCount: UInt32) -> Buffer {
      Buffer(address: GuestAddress(address), byteCount: byteCount, isWritable: true)
    }
  }

  /// How a chain's buffers are described.
  public enum Shape: Equatable, Sendable {
    case direct
    case indirect
    /// So many direct descriptors, then one that leads to a table of the rest (2.7.5.3.2).
    case directThenIndirect(Int)
  }

  /// An element of the used ring (2.7.8).
  public struct UsedElement: Equatable, Sendable {
    public var id: UInt32
    public var byteCount: UInt32

    public init(id: UInt32, byteCount: UInt32) {
      self.id = id
      self.byteCount = byteCount
    }
  }

  /// The flags of a descriptor (2.7.5): NEXT, WRITE, INDIRECT.
  public static let next: UInt16 = 1
  public static let write: UInt16 = 2
  public static let indirect: UInt16 = 4

  public internal(set) var memory: GuestMemory
  /// Queue Size.
  public let size: UInt16
  public let descriptorTable: GuestAddress
  public let availableRing: GuestAddress
  public let usedRing: GuestAddress
  /// Where there is room for an indirect table of each descriptor, `indirectCapacity` entries apart.
  public let indirectTables: GuestAddress
  public let indirectCapacity: Int
  /// The first address behind all of it that is a multiple of 4096: buffers may lie there.
  public let heap: GuestAddress

  /// The available index with all that was added, published or not.
  public internal(set) var availableIndex: UInt16
  /// The used index of the next element to take.
  public internal(set) var usedIndex: UInt16
  /// Descriptors that are in no chain.
  public internal(set) var freeDescriptors: [UInt16]
  /// The descriptors of each chain that is out, by head.
  var chains: [UInt16: [UInt16]] = [:]
  /// The heads in the order in which they were added, for 2.7.9.
  var heads: [UInt16] = []

  /// Lays a ring out in guest memory, all zeros but the two indices.
  ///
  /// - Parameters:
  ///   - start: a multiple of 4096.
  ///   - index: what both rings start from, to be near the wrap.
  public init(
    size: UInt16, memory: GuestMemory, at start: UInt64 = 0x1000, index: UInt16 = 0, indirectCapacity: Int = 32
  ) throws {
    let count = UInt64(size)
    let available = start + 16 * count
    let used = (available + 6 + 2 * count + 3) / 4 * 4
    let tables = (used + 6 + 8 * count + 15) / 16 * 16
    self.memory = memory
    self.size = size
    descriptorTable = GuestAddress(start)
    availableRing = GuestAddress(available)
    usedRing = GuestAddress(used)
    indirectTables = GuestAddress(tables)
    self.indirectCapacity = indirectCapacity
    heap = GuestAddress((tables + 16 * UInt64(indirectCapacity) * count + 4095) / 4096 * 4096)
    availableIndex = index
    usedIndex = index
    freeDescriptors = Array((0..<size).reversed())
    try memory.publish(index, at: GuestAddress(available + 2))
    try memory.publish(index, at: GuestAddress(used + 2))
  }

  /// A ring in memory of its own, with `heapByteCount` bytes for buffers.
  public init(
    size: UInt16, index: UInt16 = 0, indirectCapacity: Int = 32, heapByteCount: UInt64 = 1 << 20
  ) throws {
    let ring = UInt64(size) * UInt64(26 + 16 * indirectCapacity) + 0x4000
    let memory = try GuestMemory(byteCount: (ring + heapByteCount + 4095) / 4096 * 4096)
    try self.init(size: size, memory: memory, index: index, indirectCapacity: indirectCapacity)
  }
}

// MARK: - Making buffers available

extension RingFixture {
  /// Describes a chain and puts its head into the available ring. Nobody sees it before `publish`.
  ///
  /// - Returns: the head, or nil when there are too few free descriptors.
  @discardableResult
  public mutating func add(_ buffers: [Buffer], shape: Shape = .direct) throws -> UInt16? {
    let direct =
      switch shape {
      case .direct: buffers.count
      case .indirect: 0
      case .directThenIndirect(let count): count
      }
    let needed = direct + (shape == .direct ? 0 : 1)
    guard needed > 0, freeDescriptors.count >= needed else { return nil }
    let indices = Array(freeDescriptors.suffix(needed).reversed())
    freeDescriptors.removeLast(needed)
    for (position, index) in indices.enumerated() {
      let hasNext = position + 1 < needed
      let next = hasNext ? indices[position + 1] : 0
      if position < direct {
        try write(buffers[position], to: index, next: hasNext ? next : nil)
      } else {
        try writeIndirect(Array(buffers[direct...]), to: index)
      }
    }
    chains[indices[0]] = indices
    try offer(head: indices[0])
    return indices[0]
  }

  /// Puts a head into the available ring, whatever it names.
  public mutating func offer(head: UInt16) throws {
    try memory.write(head, at: availableRing.offset(4 + 2 * UInt64(availableIndex % size)))
    availableIndex &+= 1
    heads.append(head)
  }

  /// Lets the device see all that was added.
  public func publish() throws {
    try publish(index: availableIndex)
  }

  /// Claims any available index.
  public func publish(index: UInt16) throws {
    try memory.publish(index, at: availableRing.offset(2))
  }

  /// Adds a chain and publishes it.
  @discardableResult
  public mutating func send(_ buffers: [Buffer], shape: Shape = .direct) throws -> UInt16? {
    let head = try add(buffers, shape: shape)
    try publish()
    return head
  }

  /// Writes one descriptor, of the table itself or of an indirect one, whatever it says.
  public func writeDescriptor(
    _ index: UInt16, address: UInt64, byteCount: UInt32, flags: UInt16 = 0, next: UInt16 = 0,
    table: GuestAddress? = nil
  ) throws {
    let descriptor = (table ?? descriptorTable).offset(16 * UInt64(index))
    try memory.write(address, at: descriptor)
    try memory.write(byteCount, at: descriptor.offset(8))
    try memory.write(flags, at: descriptor.offset(12))
    try memory.write(next, at: descriptor.offset(14))
  }

  /// Where the indirect table of a descriptor has its room.
  public func indirectTable(of index: UInt16) -> GuestAddress {
    indirectTables.offset(16 * UInt64(indirectCapacity) * UInt64(index))
  }

  private func write(_ buffer: Buffer, to index: UInt16, next: UInt16?, table: GuestAddress? = nil) throws {
    try writeDescriptor(
      index, address: buffer.address.rawValue, byteCount: buffer.byteCount,
      flags: (buffer.isWritable ? Self.write : 0) | (next == nil ? 0 : Self.next), next: next ?? 0, table: table)
  }

  private func writeIndirect(_ buffers: [Buffer], to index: UInt16) throws {
    precondition(!buffers.isEmpty && buffers.count <= indirectCapacity, "an indirect table has 1...capacity entries")
    let table = indirectTable(of: index)
    for (position, buffer) in buffers.enumerated() {
      let isLast = position + 1 == buffers.count
      try write(buffer, to: UInt16(position), next: isLast ? nil : UInt16(position + 1), table: table)
    }
    try writeDescriptor(
      index, address: table.rawValue, byteCount: 16 * UInt32(buffers.count), flags: Self.indirect)
  }
}

extension GuestAddress {
  /// The address so many bytes further on.
  public func offset(_ byteCount: UInt64) -> GuestAddress {
    GuestAddress(rawValue + byteCount)
  }
}
