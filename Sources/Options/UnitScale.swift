/// Whole amounts that people write as a decimal number and a unit.
struct UnitScale {
  struct Unit {
    /// How the unit is printed, and one of the ways to write it.
    let symbol: String
    /// Other ways to write it.
    let aliases: [String]
    let size: UInt64
  }

  /// From the smallest to the largest.
  let units: [Unit]
  /// What stands between number and unit in print.
  let separator: String

  /// Reads text such as `1.5G`; the unit's letters may be of either case.
  /// - Returns: nil for anything else, for a fraction of the smallest unit, and for more than 64 bits hold.
  func parse(_ text: String) -> UInt64? {
    let number = text.prefix { $0 == "." || $0.isASCII && $0.isWholeNumber }
    let name = text.dropFirst(number.count).drop { $0 == " " }.lowercased()
    guard let unit = units.first(where: { $0.symbol.lowercased() == name || $0.aliases.contains(name) }) else {
      return nil
    }
    let parts = number.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
    guard let integer = parts.first.flatMap({ UInt64($0) }),
      let fraction = parts.count == 2 ? Self.fraction(parts[1], of: unit.size) : 0
    else { return nil }
    let (whole, overflow) = integer.multipliedReportingOverflow(by: unit.size)
    let (sum, carry) = whole.addingReportingOverflow(fraction)
    return overflow || carry ? nil : sum
  }

  /// The digits after a decimal point, as a share of `size`; nil when that is not a whole number.
  private static func fraction(_ digits: Substring, of size: UInt64) -> UInt64? {
    guard !digits.isEmpty, let last = digits.lastIndex(where: { $0 != "0" }) else { return digits.isEmpty ? nil : 0 }
    let significant = digits[...last]
    // Ten to the nineteenth is the largest power that fits.
    guard significant.count <= 19, let numerator = UInt64(significant) else { return nil }
    let denominator = (0..<significant.count).reduce(UInt64(1)) { (power, _) in power * 10 }
    let (quotient, remainder) = denominator.dividingFullWidth(numerator.multipliedFullWidth(by: size))
    return remainder == 0 ? quotient : nil
  }

  /// The amount in the largest unit that needs no more than two decimals, and loses nothing.
  func format(_ amount: UInt64) -> String {
    for unit in units.reversed() where amount >= unit.size {
      let (whole, rest) = amount.quotientAndRemainder(dividingBy: unit.size)
      let (hundredths, lost) = unit.size.dividingFullWidth(rest.multipliedFullWidth(by: 100))
      if lost == 0 { return "\(whole)\(Self.decimals(hundredths))\(separator)\(unit.symbol)" }
    }
    return "\(amount)\(separator)\(units.first?.symbol ?? "")"
  }

  private static func decimals(_ hundredths: UInt64) -> String {
    if hundredths == 0 { return "" }
    if hundredths % 10 == 0 { return ".\(hundredths / 10)" }
    return hundredths < 10 ? ".0\(hundredths)" : ".\(hundredths)"
  }
}
