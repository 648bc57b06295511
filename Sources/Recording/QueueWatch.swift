import DeviceState
import GuestRAM
import Virtqueue

/// Follows one queue from outside: what its driver lays before the device, and what the device gives back.
///
/// Of a chain it notes all that a device may read: the ring's entry, the descriptors, the device-readable bytes. It does
/// so for whole chains, when they are made available, so that a device that reads less or later still finds them. A driver
/// may not change them until they are used (2.7.13); one that does is not recorded faithfully.
struct QueueWatch {
  /// How many bytes at the end of the device-writable part are looked at, whatever length the used ring says: a block
  /// device's status is there, which may lie behind what counts as written.
  private static let tailByteCount = 16

  let configuration: QueueConfiguration
  /// The decision to notify that was noted last.
  private var decision: NotificationDecision?
  /// The available index of the next chain to note.
  private var noted: UInt16
  /// The available index as it was noted last.
  private var notedIndex: UInt16?
  private var nextAvailable: UInt16
  private var nextUsed: UInt16
  /// The device-writable buffers of chains that are not given back, by head.
  private var rooms: [UInt16: [GuestBuffer]] = [:]
  /// The heads of the same chains, in the order in which they came.
  private var heads: [UInt16: UInt16] = [:]

  /// Begins to follow a queue: one that was just opened, or one that goes on, whose last decision is then an old one.
  init(_ queue: borrowing SplitVirtqueue, _ configuration: QueueConfiguration) {
    self.configuration = configuration
    decision = queue.lastDecision
    noted = queue.nextAvailable
    nextAvailable = queue.nextAvailable
    nextUsed = queue.nextUsed
  }

  /// What was decided since this was asked last; nil when nothing was.
  mutating func takeDecision(_ queue: borrowing SplitVirtqueue) -> NotificationDecision? {
    guard let new = queue.lastDecision, new != decision else { return nil }
    decision = new
    return new
  }

  /// Notes all chains that are there.
  mutating func noteArrivals(
    _ queue: borrowing SplitVirtqueue, _ memory: GuestMemory, into patches: inout PatchList
  ) throws(RecordingError) {
    let place = GuestRange(start: at(configuration.availableRing, 2), byteCount: 2)
    guard let bytes = memory.copy(of: place) else { return }
    try note(upTo: UInt16(bytes[0]) | UInt16(bytes[1]) << 8, queue.size, memory, into: &patches)
  }

  /// Notes the chains that came during a call, as far as the device has seen them.
  mutating func noteLateArrivals(
    _ queue: borrowing SplitVirtqueue, _ memory: GuestMemory, into patches: inout PatchList
  ) throws(RecordingError) {
    let seen = queue.seenAvailable
    guard seen != noted, seen &- noted <= queue.size else { return }
    try note(upTo: seen, queue.size, memory, into: &patches)
  }

  private mutating func note(
    upTo index: UInt16, _ size: UInt16, _ memory: GuestMemory, into patches: inout PatchList
  ) throws(RecordingError) {
    // An index that is too far ahead, or goes back, is for the device to refuse.
    let count = min(index &- noted, size)
    for ahead in 0..<count { try noteChain(noted &+ ahead, size, memory, into: &patches) }
    noted = index
    guard notedIndex != index else { return }
    notedIndex = index
    try patches.add(GuestRange(start: at(configuration.availableRing, 2), byteCount: 2), of: memory)
  }

  private mutating func noteChain(
    _ position: UInt16, _ size: UInt16, _ memory: GuestMemory, into patches: inout PatchList
  ) throws(RecordingError) {
    let entry = GuestRange(start: at(configuration.availableRing, 4 + 2 * UInt64(position & (size - 1))), byteCount: 2)
    guard let bytes = try patches.add(entry, of: memory) else { return }
    let head = UInt16(bytes[0]) | UInt16(bytes[1]) << 8
    heads[position] = head
    var walk = WatchedChain(memory)
    try walk.follow(head, in: configuration.descriptorTable, count: size, &patches)
    rooms[head] = walk.writable
    for tail in Self.tail(of: walk.writable) { try patches.add(tail.range, of: memory) }
  }

  private func at(_ address: GuestAddress, _ offset: UInt64) -> GuestAddress {
    GuestAddress(address.rawValue &+ offset)
  }
}

/// What comes back.
extension QueueWatch {
  /// What was done on the queue since this was asked last; nil when nothing was. To be asked before the driver is let see
  /// it, for then the buffers are the driver's again.
  mutating func takeOutcome(
    _ queue: borrowing SplitVirtqueue, _ index: UInt16, _ memory: GuestMemory
  ) -> QueueOutcome? {
    guard queue.nextAvailable != nextAvailable || queue.nextUsed != nextUsed else { return nil }
    let used = queue.features.inOrder ? takeRuns(queue, memory) : takeElements(queue, memory)
    nextAvailable = queue.nextAvailable
    nextUsed = queue.nextUsed
    return QueueOutcome(index: index, nextAvailable: nextAvailable, used: used)
  }

  private mutating func takeElements(_ queue: borrowing SplitVirtqueue, _ memory: GuestMemory) -> [UsedChain] {
    var chains: [UsedChain] = []
    while nextUsed != queue.nextUsed {
      guard let (head, byteCount) = element(nextUsed, queue.size, memory) else { break }
      chains.append(take(head, byteCount, memory))
      heads[nextUsed] = nil
      nextUsed &+= 1
    }
    return chains
  }

  /// One element may stand for a run of chains that were used completely, and for the one that ends it (2.7.9).
  private mutating func takeRuns(_ queue: borrowing SplitVirtqueue, _ memory: GuestMemory) -> [UsedChain] {
    var chains: [UsedChain] = []
    while nextUsed != queue.nextUsed, let (last, byteCount) = element(nextUsed, queue.size, memory) {
      var isLast = false
      while nextUsed != queue.nextUsed, !isLast, let head = heads.removeValue(forKey: nextUsed) {
        isLast = UInt32(head) == last
        let room = rooms[head, default: []].reduce(0) { $0 &+ $1.byteCount }
        chains.append(take(UInt32(head), isLast ? byteCount : UInt32(truncatingIfNeeded: room), memory))
        nextUsed &+= 1
      }
      if !isLast { break }
    }
    return chains
  }

  private func element(_ position: UInt16, _ size: UInt16, _ memory: GuestMemory) -> (UInt32, UInt32)? {
    let place = at(configuration.usedRing, 4 + 8 * UInt64(position & (size - 1)))
    return memory.copy(of: GuestRange(start: place, byteCount: 8)).map { bytes in
      let words = (0..<8).reduce(0 as UInt64) { $0 | UInt64(bytes[$1]) << UInt64(8 * $1) }
      return (UInt32(truncatingIfNeeded: words), UInt32(truncatingIfNeeded: words >> 32))
    }
  }

  private mutating func take(_ head: UInt32, _ byteCount: UInt32, _ memory: GuestMemory) -> UsedChain {
    let room = rooms.removeValue(forKey: UInt16(truncatingIfNeeded: head)) ?? []
    return UsedChain(head: head, byteCount: byteCount, digest: Self.digest(room, Int(byteCount), memory))
  }

  /// The checksum of what a driver may look at (2.7.8.2) and of the last bytes of the room.
  private static func digest(_ room: [GuestBuffer], _ byteCount: Int, _ memory: GuestMemory) -> UInt32 {
    var digest: UInt32 = 0
    var left = byteCount
    for buffer in room where left > 0 {
      digest = memory.checksum(buffer.address, min(left, buffer.byteCount), after: digest)
      left -= min(left, buffer.byteCount)
    }
    for buffer in tail(of: room) { digest = memory.checksum(buffer.address, buffer.byteCount, after: digest) }
    return digest
  }

  /// The last bytes of device-writable buffers, the very last first.
  private static func tail(of room: [GuestBuffer]) -> [GuestBuffer] {
    var left = tailByteCount
    var tail: [GuestBuffer] = []
    for buffer in room.reversed() where left > 0 && buffer.byteCount > 0 {
      let count = min(left, buffer.byteCount)
      let start = buffer.address.rawValue &+ UInt64(buffer.byteCount - count)
      tail.append(GuestBuffer(address: GuestAddress(start), byteCount: count))
      left -= count
    }
    return tail
  }
}
