import GuestRAM
import LinuxIO

/// What a source knows of a guest that runs, or is about to, before all of its pages are there.
struct LateSending {
  /// While somebody waits for pages now and then, fewer are sent at a time that nobody waits for.
  private static let fewPages = 4
  /// The most pages that may be asked for and not sent: each has somebody who waits for it.
  private static let mostWanted = 4096
  /// So many frames without a question say that nobody waits for pages now.
  private static let calm = 64

  let token: MoveToken
  /// What has not been sent, or not over a connection that still stands.
  private(set) var pages: OutstandingPages
  /// Pages that somebody waits for, the oldest first.
  private var wanted: [GuestAddress] = []
  /// The frames sent since somebody waited for a page.
  private var unaskedCount = Self.calm
  /// Where the pages go on that nobody asks for.
  private var next = GuestAddress(0)
  /// The pages sent that are not known to be stored.
  private var unstored = 0
  private var bucket: TokenBucket?
  /// Before this moment nothing is sent that nobody has asked for.
  private var pausedUntil: UInt64 = 0

  /// Whether `commit` was sent, or perhaps was: the guest may run at the destination.
  var isGiven = false
  /// Whether the destination is known to have it.
  var isTaken = false
  /// Whether the destination has the guest, and lacks nothing.
  var isOver: Bool { isTaken && pages.count == 0 && unstored == 0 }
  /// How many pages it may lack.
  var missingCount: UInt64 { pages.count + UInt64(unstored) }

  /// The pages sent because somebody waited for one of them.
  private(set) var requestedPageCount: UInt64 = 0

  init(_ token: MoveToken, _ pages: OutstandingPages, mostBytesPerSecond: UInt64?) {
    self.token = token
    self.pages = pages
    bucket = mostBytesPerSecond.map { TokenBucket(.init(perSecond: max(1, $0), burst: max($0 / 20, 1 << 20))) }
  }

  /// A new connection stands, over which these pages are to be sent.
  mutating func restart(_ pages: OutstandingPages) {
    (self.pages, wanted, unstored) = (pages, [], 0)
    (isGiven, isTaken) = (true, true)
  }

  // MARK: - What the destination says

  mutating func hear(_ frame: Frame) throws(MigrationError) {
    switch frame.kind {
    case .request where wanted.count < Self.mostWanted: try wanted.append(GuestAddress(page: frame))
    case .stored: unstored -= try storedCount(frame)
    case .committed where isGiven && !isTaken: isTaken = true
    default: throw .unexpectedFrame(frame.kind)
    }
  }

  private func storedCount(_ frame: Frame) throws(MigrationError) -> Int {
    var reader = WireReader(frame.payload)
    guard let count: UInt32 = reader.integer(), reader.remainingCount == 0, count <= unstored else {
      throw .malformedFrame(.stored)
    }
    return Int(count)
  }

  // MARK: - What is sent next

  /// How many pages are sent at a time that nobody waits for.
  private var mostPages: Int { unaskedCount < Self.calm ? Self.fewPages : LateRun.mostPages }
  /// Whether more may be under way: whoever waits for a page waits for all that to be stored.
  private var mayFollow: Bool { unstored < 2 * mostPages }

  /// How long to wait for the destination before something can be sent: not at all, or until it says something (nil).
  func delay(now: UInt64) -> Duration? {
    if !wanted.isEmpty { return .zero }
    guard pages.count > 0, mayFollow else { return nil }
    return .nanoseconds(Int64(clamping: pausedUntil > now ? pausedUntil - now : 0))
  }

  /// Takes the pages to be sent next: those that somebody waits for, then their neighbours, then all others. Nil when none
  /// may be sent now.
  mutating func take(of memory: GuestMemory) throws(MigrationError) -> LateRun? {
    while !wanted.isEmpty {
      let page = wanted.removeFirst()
      // It may be on its way.
      guard pages.contains(page) else { continue }
      requestedPageCount += 1
      unaskedCount = 0
      return try take(GuestRange(start: page, byteCount: GuestPage.byteCount), of: memory)
    }
    guard mayFollow, MonotonicClock.now >= pausedUntil else { return nil }
    unaskedCount += 1
    let ahead = pages.run(from: next, most: mostPages)
    guard let range = ahead ?? pages.run(from: GuestAddress(0), most: mostPages) else { return nil }
    let late = try take(range, of: memory)
    let now = MonotonicClock.now
    if let delay = bucket?.take(UInt64(late.frame.dataByteCount), now: now) { pausedUntil = now + delay }
    return late
  }

  private mutating func take(_ range: GuestRange, of memory: GuestMemory) throws(MigrationError) -> LateRun {
    let late = try LateRun(first: range, of: memory)
    try pages.remove(late.run.range)
    unstored += Int(late.run.pageCount)
    next = late.run.range.end ?? GuestAddress(0)
    return late
  }
}
