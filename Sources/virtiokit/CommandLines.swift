/// Cuts what comes in pieces into lines.
struct CommandLines {
  /// The longest line that is taken, in bytes.
  static let mostBytes = 4096

  private var unfinished: [UInt8] = []

  /// Takes the next piece.
  /// - Returns: the lines that it ends, without empty ones; nil when a line is too long.
  mutating func take(_ bytes: [UInt8]) -> [String]? {
    var lines: [String] = []
    for byte in bytes {
      if byte == UInt8(ascii: "\n") {
        let line = String(decoding: unfinished, as: UTF8.self)
        if line.contains(where: { !$0.isWhitespace }) { lines.append(line) }
        unfinished.removeAll(keepingCapacity: true)
      } else {
        guard unfinished.count < Self.mostBytes else { return nil }
        unfinished.append(byte)
      }
    }
    return lines
  }
}
