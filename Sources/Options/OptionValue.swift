/// A type that can be written as the value of an option.
public protocol OptionValue {
  /// Reads what the user wrote; nil when it means nothing.
  init?(optionText: String)

  /// The value as the user would write it; `init(optionText:)` reads it back.
  var optionText: String { get }

  /// What stands for a value in a help text, such as `SIZE`.
  static var placeholder: String { get }

  /// What the user may write, to complete the sentence "It takes …".
  static var expectation: String { get }
}

extension String: OptionValue {
  public init?(optionText: String) { self = optionText }
  public var optionText: String { self }
  public static var placeholder: String { "TEXT" }
  public static var expectation: String { "any text" }
}

/// Whole numbers: decimal, or hexadecimal after `0x`.
extension OptionValue where Self: FixedWidthInteger {
  public init?(optionText: String) {
    let isHexadecimal = optionText.hasPrefix("0x")
    let digits = isHexadecimal ? optionText.dropFirst(2) : optionText[...]
    guard let first = digits.utf8.first, first != UInt8(ascii: "+"), !isHexadecimal || first != UInt8(ascii: "-") else {
      return nil
    }
    self.init(digits, radix: isHexadecimal ? 16 : 10)
  }

  public var optionText: String { String(self) }
  public static var placeholder: String { "NUMBER" }
  public static var expectation: String { "a whole number from \(Self.min) to \(Self.max)" }
}

extension Int: OptionValue {}
extension UInt16: OptionValue {}
extension UInt32: OptionValue {}
extension UInt64: OptionValue {}

/// Enumerations whose cases are named by strings need only say that they are option values.
extension OptionValue where Self: RawRepresentable<String> & CaseIterable {
  public init?(optionText: String) { self.init(rawValue: optionText) }
  public var optionText: String { rawValue }
  public static var placeholder: String { allCases.map(\.rawValue).joined(separator: "|") }
  public static var expectation: String { "one of " + allCases.map(\.rawValue).joined(separator: ", ") }
}
