extension StateDocument {
  private static let bytesPerLine = 16
  /// The most lines of one span.
  private static let mostLines = 4

  /// The bytes that the document was read from, each stretch beside its meaning; `??` is what nothing was made of.
  public func hexdump(of bytes: [UInt8]) -> String {
    var text = ""
    var position = 0
    for span in spans where span.offset >= position && span.offset + span.byteCount <= bytes.count {
      text += Self.lines(of: bytes[position..<span.offset], meaning: "??")
      position = span.offset + span.byteCount
      text += Self.lines(of: bytes[span.offset..<position], meaning: span.meaning)
    }
    return text + Self.lines(of: bytes[position...], meaning: "??")
  }

  /// - Parameter bytes: with the indices that they have in the file.
  private static func lines(of bytes: ArraySlice<UInt8>, meaning: String) -> String {
    var text = ""
    var rest = bytes
    var meaning = meaning
    while !rest.isEmpty {
      let line = rest.prefix(bytesPerLine)
      if line.startIndex - bytes.startIndex == mostLines * bytesPerLine, rest.count > bytesPerLine {
        return text + "\(UInt32(truncatingIfNeeded: rest.startIndex).hex)  … \(rest.count) bytes more\n"
      }
      let digits = line.map(\.hex).joined(separator: " ")
      let padding = String(repeating: " ", count: bytesPerLine * 3 - 1 - digits.count)
      text += "\(UInt32(truncatingIfNeeded: line.startIndex).hex)  \(digits)"
      text += meaning.isEmpty ? "\n" : "\(padding)  \(meaning)\n"
      meaning = ""
      rest = rest.dropFirst(bytesPerLine)
    }
    return text
  }
}
