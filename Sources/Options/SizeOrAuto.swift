/// A size, or the word `auto` for whoever reads the option to find one.
public enum SizeOrAuto: Equatable, Sendable, OptionValue {
  case size(ByteCount)
  case auto

  public static var placeholder: String { "SIZE|auto" }
  public static var expectation: String { "\(ByteCount.expectation), or auto" }

  public init?(optionText: String) {
    if optionText == "auto" {
      self = .auto
    } else if let size = ByteCount(optionText: optionText) {
      self = .size(size)
    } else {
      return nil
    }
  }

  public var optionText: String {
    switch self {
    case .size(let size): size.optionText
    case .auto: "auto"
    }
  }
}
