/// How long a guest that runs before all of its pages are there has waited for them.
public struct PageWaits: Equatable, Sendable {
  /// The waits whose lengths are kept, and no more.
  private static let mostKept = 1 << 16

  /// How often somebody waited for a page to come from the source.
  public private(set) var count: UInt64 = 0
  /// The longest wait, in nanoseconds.
  public private(set) var longest: UInt64 = 0
  private var kept: [UInt64] = []

  init() {}

  mutating func add(nanoseconds: UInt64) {
    count += 1
    longest = max(longest, nanoseconds)
    if kept.count < Self.mostKept { kept.append(nanoseconds) }
  }

  /// What half of the waits did not exceed, in nanoseconds; nil without any. The first 65536 count.
  public var median: UInt64? {
    kept.isEmpty ? nil : kept.sorted()[(kept.count - 1) / 2]
  }
}
