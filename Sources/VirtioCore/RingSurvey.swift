public import GuestRAM
import Virtqueue

/// A look at a saved queue's rings in the guest's memory, which changes nothing and believes nothing.
///
/// What it finds wrong would break the queue as soon as it is served; what is served by then is not looked at.
public struct RingSurvey {
  /// The queue's number.
  public let index: Int
  /// How many chains the driver has made available that were not taken.
  public private(set) var waitingCount: UInt16 = 0
  /// What is wrong, in words.
  public private(set) var problems: [String] = []
  /// Descriptor table, available ring and used ring.
  public private(set) var ringRanges: [GuestRange] = []
  /// Indirect tables, and the device-readable buffers of all waiting chains.
  public private(set) var bufferRanges: [GuestRange] = []

  private let queue: QueueState
  private let features: Features
  private let memory: GuestMemory

  /// - Parameter features: those that driver and device agreed on.
  public init(_ queue: QueueState, _ features: Features, _ memory: GuestMemory) {
    index = Int(queue.index)
    self.queue = queue
    self.features = features
    self.memory = memory
    guard layOut() else { return }
    do throws(GuestMemoryError) {
      try lookAtIndices()
    } catch {
      problems.append("\(error)")
    }
  }

  /// - Returns: whether all three parts are in memory.
  private mutating func layOut() -> Bool {
    guard RingLayout.isLegal(size: queue.size) else {
      problems.append("the size \(queue.size) is not legal")
      return false
    }
    let eventIndex = features.contains(.eventIndex)
    let parts: [(String, UInt64, Int, Int)] = [
      (
        "descriptor table", queue.descriptorTable, RingLayout.descriptorTableByteCount(size: queue.size),
        RingLayout.descriptorTableAlignment
      ),
      (
        "available ring", queue.availableRing,
        RingLayout.availableRingByteCount(size: queue.size, eventIndex: eventIndex), RingLayout.availableRingAlignment
      ),
      (
        "used ring", queue.usedRing, RingLayout.usedRingByteCount(size: queue.size, eventIndex: eventIndex),
        RingLayout.usedRingAlignment
      ),
    ]
    for (name, address, byteCount, alignment) in parts {
      let range = GuestRange(start: GuestAddress(address), byteCount: UInt64(byteCount))
      if address % UInt64(alignment) != 0 { problems.append("the \(name) is not aligned to \(alignment) bytes") }
      if (try? memory.check(range)) == nil { problems.append("the \(name) is not in guest memory: \(range)") }
      ringRanges.append(range)
    }
    return problems.isEmpty
  }

  private mutating func lookAtIndices() throws(GuestMemoryError) {
    let used = try memory.read(UInt16.self, at: GuestAddress(queue.usedRing &+ 2))
    if used != queue.nextAvailable {
      problems.append("the used index is \(used) in memory and \(queue.nextAvailable) in the state")
    }
    let available = try memory.read(UInt16.self, at: GuestAddress(queue.availableRing &+ 2))
    let count = available &- queue.nextAvailable
    guard count <= queue.size else {
      problems.append("the available index \(available) is \(count) ahead, in a ring of \(queue.size)")
      return
    }
    waitingCount = count
    for step in 0..<count {
      let slot = UInt64((queue.nextAvailable &+ step) & (queue.size - 1))
      let head = try memory.read(UInt16.self, at: GuestAddress(queue.availableRing &+ 4 &+ 2 * slot))
      try walk(head)
    }
  }

  /// Follows one chain.
  private mutating func walk(_ head: UInt16) throws(GuestMemoryError) {
    var table = queue.descriptorTable
    var count = UInt64(queue.size)
    var left = count
    var next = UInt64(head)
    var isIndirect = false
    while true {
      guard next < count else { return complain(head, "leads to descriptor \(next) of \(count)") }
      guard left > 0 else { return complain(head, "is longer than its table") }
      left -= 1
      let row = GuestAddress(table &+ 16 * next)
      let address = try memory.read(UInt64.self, at: row)
      let byteCount = try memory.read(UInt32.self, at: GuestAddress(row.rawValue &+ 8))
      let flags = try memory.read(UInt16.self, at: GuestAddress(row.rawValue &+ 12))
      let range = GuestRange(start: GuestAddress(address), byteCount: UInt64(byteCount))
      guard byteCount == 0 || (try? memory.check(range)) != nil else {
        return complain(head, "has a buffer outside guest memory: \(range)")
      }
      if flags & Flags.write == 0, byteCount > 0 { bufferRanges.append(range) }
      if flags & Flags.indirect != 0 {
        guard !isIndirect, flags & Flags.next == 0, byteCount > 0, byteCount % 16 == 0 else {
          return complain(head, "has an indirect table that is not legal")
        }
        (isIndirect, table, count, next) = (true, address, UInt64(byteCount / 16), 0)
        left = count
        continue
      }
      guard flags & Flags.next != 0 else { return }
      next = UInt64(try memory.read(UInt16.self, at: GuestAddress(row.rawValue &+ 14)))
    }
  }

  private mutating func complain(_ head: UInt16, _ what: String) {
    // A ring has at most 32768 chains, and one bad chain is enough to break it.
    if problems.count < 16 { problems.append("the chain at descriptor \(head) \(what)") }
  }

  /// The flags of a descriptor (2.7.5): NEXT, WRITE, INDIRECT.
  private enum Flags {
    static let next: UInt16 = 1
    static let write: UInt16 = 2
    static let indirect: UInt16 = 4
  }
}
