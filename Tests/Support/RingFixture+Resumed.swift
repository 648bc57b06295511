public import GuestRAM
public import VirtioCore

extension RingFixture {
  /// The driver of a ring that stands in memory already and that a device is saved at: it has taken all that was given
  /// back, and waits for the rest.
  public init(resuming queue: QueueState, memory: GuestMemory) throws {
    self.memory = memory
    size = queue.size
    descriptorTable = GuestAddress(queue.descriptorTable)
    availableRing = GuestAddress(queue.availableRing)
    usedRing = GuestAddress(queue.usedRing)
    indirectTables = GuestAddress(0)
    indirectCapacity = 0
    heap = GuestAddress(0)
    availableIndex = try memory.acquire(at: availableRing.offset(2))
    usedIndex = queue.nextAvailable
    freeDescriptors = []
    var busy: Set<UInt16> = []
    for step in 0..<(availableIndex &- usedIndex) {
      let slot = UInt64((usedIndex &+ step) % size)
      let head = try memory.read(UInt16.self, at: availableRing.offset(4 + 2 * slot))
      let members = try descriptors(of: head)
      chains[head] = members
      heads.append(head)
      busy.formUnion(members)
    }
    freeDescriptors = (0..<size).reversed().filter { !busy.contains($0) }
  }

  /// The heads of the chains that are out, in the order in which they were made available.
  public var waitingHeads: [UInt16] { heads }

  private func descriptors(of head: UInt16) throws -> [UInt16] {
    var members = [head]
    while members.count <= size {
      let row = descriptorTable.offset(16 * UInt64(members[members.count - 1]))
      guard try memory.read(UInt16.self, at: row.offset(12)) & Self.next != 0 else { break }
      members.append(try memory.read(UInt16.self, at: row.offset(14)))
    }
    return members
  }

  /// What a chain in memory describes.
  public func buffers(of head: UInt16) throws -> [Buffer] {
    try descriptors(of: head).flatMap { index in
      let row = descriptorTable.offset(16 * UInt64(index))
      guard try memory.read(UInt16.self, at: row.offset(12)) & Self.indirect != 0 else { return [try buffer(at: row)] }
      let table = GuestAddress(try memory.read(UInt64.self, at: row))
      let count = try memory.read(UInt32.self, at: row.offset(8)) / 16
      // Drivers chain the rows of an indirect table one behind the other.
      return try (0..<UInt64(count)).map { try buffer(at: table.offset(16 * $0)) }
    }
  }

  private func buffer(at row: GuestAddress) throws -> Buffer {
    Buffer(
      address: GuestAddress(try memory.read(UInt64.self, at: row)),
      byteCount: try memory.read(UInt32.self, at: row.offset(8)),
      isWritable: try memory.read(UInt16.self, at: row.offset(12)) & Self.write != 0)
  }
}
