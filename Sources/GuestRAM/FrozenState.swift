import LinuxIO

/// What those who take, who answer and who discard share.
struct FrozenState {
  enum Phase { case arming, frozen, over }

  var phase = Phase.arming
  var failure: LinuxError?
  /// Pages of each region that may be written: since they were protected at first, and then since they were put aside.
  var opened: [PageMarks]
  /// Where pages of each region were put aside; one that is open and is not there was zero.
  var slots: [[Int: Int]]
  /// Where huge pages lie, of regions that have them.
  var backed: [Int: [Range<Int>]] = [:]
  /// What has been taken: all regions before this one, and of it the pages before this byte of its mapping.
  var region = 0
  var next = 0
  /// A stretch of that region that is known to have memory behind it, but for pages that are open.
  var extent: Range<Int>?
  private var free: [Int] = []
  private var freshCount = 0
  private let room: Int
  var asideCount = 0

  init(pageCounts: [Int], room: Int) {
    opened = pageCounts.map { PageMarks(pageCount: $0) }
    slots = pageCounts.map { (_) in [:] }
    self.room = room
  }

  func check() throws(GuestMemoryError) {
    if let failure { throw .system(failure) }
    if phase == .over { throw .trackingEnded }
  }

  var freeCount: Int { free.count + room - freshCount }

  mutating func takeSlot() -> Int {
    asideCount += 1
    if let slot = free.popLast() { return slot }
    freshCount += 1
    return freshCount - 1
  }

  mutating func giveBack(_ slot: Int) {
    free.append(slot)
  }

  func isTaken(_ index: Int, _ bytes: Range<Int>) -> Bool {
    index < region || index == region && bytes.lowerBound < next
  }
}
