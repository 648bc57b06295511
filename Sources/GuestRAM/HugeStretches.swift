import LinuxIO

/// The stretches of guest memory, each of a huge page's size, that are worth a huge page since all of each is about to be
/// stored, and those that have got one.
struct HugeStretches {
  enum Claim { case small, wanted, huge }

  static let byteCount = UInt64(Mapping.hugePageByteCount)
  /// After so many in a row that could not be had nobody asks for more: the kernel looks for each for long.
  private static let mostRefusals = 4
  /// What 512 small pages take at their slowest, and so what a huge one is worth, in nanoseconds.
  private static let worth: UInt64 = 10_000_000
  /// The most nanoseconds that all together may have taken beyond their worth: one may have waited for a busy processor.
  private static let mostLost: UInt64 = 1_000_000_000

  private var wanted: Set<UInt64> = []
  private var inTheMaking: Set<UInt64> = []
  private var huge: Set<UInt64> = []
  private var refusalCount = 0
  private var lost: UInt64 = 0
  private(set) var wantsAny = true

  /// Where the first stretch starts that is not before an address; the last address of all where there is none.
  private static func firstStart(from address: GuestAddress) -> UInt64 {
    let (last, overflow) = address.rawValue.addingReportingOverflow(byteCount - 1)
    return overflow ? .max : last - last % byteCount
  }

  /// The bytes from an address to the end of its stretch.
  static func bytes(after address: GuestAddress) -> UInt64 { byteCount - address.rawValue % byteCount }

  /// Wants the stretches that ranges, rising and touching each other or not, have all of.
  mutating func want(_ ranges: [GuestRange], where isPossible: (GuestRange) -> Bool) {
    guard wantsAny else { return }
    var (start, end): (UInt64, UInt64) = (0, 0)
    for range in ranges {
      guard let rangeEnd = range.end?.rawValue else { continue }
      if range.start.rawValue != end { start = Self.firstStart(from: range.start) }
      end = rangeEnd
      while start < end, end - start >= Self.byteCount {
        let stretch = GuestRange(start: GuestAddress(start), byteCount: Self.byteCount)
        if isPossible(stretch) { wanted.insert(start) }
        start += Self.byteCount
      }
    }
  }

  /// From now on no more are made.
  mutating func wantNothing() {
    wanted = []
    wantsAny = false
  }

  /// Whether something holds of the starts of all stretches that a range lies in.
  static func all(_ range: GuestRange, _ body: (UInt64) -> Bool) -> Bool {
    guard let end = range.end else { return false }
    let first = range.start.rawValue - range.start.rawValue % byteCount
    return stride(from: first, to: end.rawValue, by: Int(byteCount)).allSatisfy(body)
  }

  /// What becomes of a stretch; nil as long as somebody else is making it. Who claims a wanted one has to decide.
  mutating func claim(_ start: UInt64) -> Claim? {
    if inTheMaking.contains(start) { return nil }
    guard wanted.remove(start) != nil else { return huge.contains(start) ? .huge : .small }
    inTheMaking.insert(start)
    return .wanted
  }

  /// What to make rather than wait for a stretch that somebody else is making: the next one, if it is wanted.
  mutating func claimNext(after start: UInt64) -> UInt64? {
    guard inTheMaking.contains(start), let next = wanted.remove(start &+ Self.byteCount) else { return nil }
    inTheMaking.insert(next)
    return next
  }

  /// - Parameters:
  ///   - isHuge: whether who stores there stores in place.
  ///   - time: what it took to find out, in nanoseconds.
  mutating func decide(_ start: UInt64, isHuge: Bool, after time: UInt64) {
    inTheMaking.remove(start)
    if isHuge { huge.insert(start) }
    refusalCount = isHuge ? 0 : refusalCount + 1
    let sum = lost.addingReportingOverflow(time)
    lost = sum.overflow ? .max : sum.partialValue - min(sum.partialValue, Self.worth)
    if refusalCount >= Self.mostRefusals || lost >= Self.mostLost { wantNothing() }
  }
}
