extension String {
  /// The text with everything escaped that could move a terminal's cursor or end a JSON string.
  public var printable: String {
    var text = ""
    for scalar in unicodeScalars {
      switch scalar.properties.generalCategory {
      case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .unassigned:
        for unit in UTF16.encode(scalar) ?? .init() { text += "\\u" + unit.hex }
      default:
        if scalar == "\"" || scalar == "\\" { text.append("\\") }
        text.unicodeScalars.append(scalar)
      }
    }
    return text
  }

  /// A JSON string.
  var quoted: String { "\"\(printable)\"" }
}

extension FixedWidthInteger where Self: UnsignedInteger {
  /// All digits, with leading zeros.
  var hex: String {
    let digits = String(self, radix: 16)
    return String(repeating: "0", count: Self.bitWidth / 4 - digits.count) + digits
  }
}

extension Sequence<UInt8> {
  var hex: String { map(\.hex).joined() }
}
