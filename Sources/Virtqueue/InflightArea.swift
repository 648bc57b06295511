public import GuestRAM

/// One queue's part of memory that outlives a back-end and says which chains the back-end has: vhost-user's in-flight
/// region, in its layout for split rings.
///
/// Whoever takes over a ring from a back-end that was killed finds there what to serve again.
public struct InflightArea: Equatable, Sendable {
  /// The memory of all queues' areas, which is not the guest's.
  public let memory: GuestMemory
  /// Where the queue's area starts in `memory`: a multiple of 8.
  public let start: GuestAddress
  /// How many descriptors the area has room for; at least Queue Size.
  public let entryCount: UInt16

  public init(in memory: GuestMemory, at start: GuestAddress, entryCount: UInt16) {
    self.memory = memory
    self.start = start
    self.entryCount = entryCount
  }

  /// The bytes from one queue's area to the next: a header and an entry for each descriptor, rounded up to 64.
  public static func byteCount(entryCount: UInt16) -> UInt64 {
    (UInt64(Layout.entry(entryCount)) + 63) / 64 * 64
  }

  /// Forgets what it says: whoever starts a queue upon it next has nothing in flight.
  public func erase() throws(VirtqueueError) {
    try open().store(UInt16(0), at: Layout.version)
  }

  func open() throws(VirtqueueError) -> MemoryWindow {
    do throws(GuestMemoryError) {
      return try MemoryWindow(of: memory, at: start, byteCount: Layout.entry(entryCount), alignment: 8)
    } catch {
      throw .memory(error)
    }
  }

  public static func == (left: InflightArea, right: InflightArea) -> Bool {
    left.memory === right.memory && left.start == right.start && left.entryCount == right.entryCount
  }

  /// Where the fields are, in bytes.
  enum Layout {
    static let features = 0
    /// 0 before the first use.
    static let version = 8
    static let entryCount = 10
    /// The chain that was given back last; each one's entry names the one before.
    static let lastGiven = 12
    /// The used index, once those of the last batch are no longer marked.
    static let usedIndex = 14

    static func entry(_ head: UInt16) -> Int { 16 + 16 * Int(head) }
    static func isInFlight(_ head: UInt16) -> Int { entry(head) }
    static func previous(_ head: UInt16) -> Int { entry(head) + 6 }
    static func counter(_ head: UInt16) -> Int { entry(head) + 8 }
  }
}
