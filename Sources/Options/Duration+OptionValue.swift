/// Times such as `250ms`, `1.5s` or `2min`, in whole nanoseconds. The unit must be written.
extension Duration: OptionValue {
  private static let scale = UnitScale(
    units: [
      UnitScale.Unit(symbol: "ns", aliases: [], size: 1),
      UnitScale.Unit(symbol: "us", aliases: ["µs"], size: 1_000),
      UnitScale.Unit(symbol: "ms", aliases: [], size: 1_000_000),
      UnitScale.Unit(symbol: "s", aliases: ["sec"], size: 1_000_000_000),
      UnitScale.Unit(symbol: "min", aliases: [], size: 60_000_000_000),
      UnitScale.Unit(symbol: "h", aliases: [], size: 3_600_000_000_000),
    ],
    separator: "")

  public init?(optionText: String) {
    guard let count = Self.scale.parse(optionText), let nanoseconds = Int64(exactly: count) else { return nil }
    self = .nanoseconds(nanoseconds)
  }

  /// Without what is beyond a nanosecond; 0 for a negative time, about 292 years for a longer one.
  public var optionText: String {
    guard self > .zero else { return "0s" }
    let (seconds, attoseconds) = min(self, .nanoseconds(Int64.max)).components
    return Self.scale.format(UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000))
  }

  public static var placeholder: String { "TIME" }
  public static var expectation: String { "a time with its unit, such as 250ms, 1.5s or 2min" }
}
