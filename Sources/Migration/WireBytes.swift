/// Integers and texts on their way into a frame: little endian, without padding.
struct WireWriter {
  private(set) var bytes: [UInt8] = []

  mutating func append<T: FixedWidthInteger & UnsignedInteger>(_ value: T) {
    for shift in stride(from: 0, to: T.bitWidth, by: 8) { bytes.append(UInt8(truncatingIfNeeded: value >> T(shift))) }
  }

  /// A text of at most `most` bytes of UTF-8 after its length; a longer one is cut off between characters.
  mutating func append(_ text: String, most: Int) {
    var text = Substring(text)
    while text.utf8.count > most { text.removeLast() }
    append(UInt16(text.utf8.count))
    bytes += text.utf8
  }
}

/// Takes a frame's payload apart; nil says that it ends too early or is no text.
struct WireReader {
  private let bytes: [UInt8]
  private var position = 0

  init(_ bytes: [UInt8]) {
    self.bytes = bytes
  }

  var remainingCount: Int { bytes.count - position }

  mutating func integer<T: FixedWidthInteger & UnsignedInteger>(_: T.Type = T.self) -> T? {
    guard remainingCount >= T.bitWidth / 8 else { return nil }
    var value: T = 0
    for shift in stride(from: 0, to: T.bitWidth, by: 8) {
      value |= T(bytes[position]) << T(shift)
      position += 1
    }
    return value
  }

  /// A text of at most `most` bytes, with whatever could disturb a terminal replaced.
  mutating func text(most: Int) -> String? {
    guard let count = integer(UInt16.self).map(Int.init), count <= most, count <= remainingCount else { return nil }
    defer { position += count }
    return String(validating: bytes[position..<position + count], as: UTF8.self)?.withoutControls
  }
}

extension String {
  /// The text with a question mark for each control or invisible character.
  fileprivate var withoutControls: String {
    var text = ""
    for scalar in unicodeScalars {
      switch scalar.properties.generalCategory {
      case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .unassigned: text.append("?")
      default: text.unicodeScalars.append(scalar)
      }
    }
    return text
  }
}
