import Foundation

/// Pages of one kind, one after another, and what they held before.
struct Pages {
  static let byteCount = 4096
  static let count = 2048

  let name: String
  let bytes: [UInt8]
  let earlier: [UInt8]

  /// Where each page lies in `bytes`.
  static let ranges = (0..<count).map { $0 * byteCount..<($0 + 1) * byteCount }

  static func all() -> [Pages] {
    var random = SystemRandomNumberGenerator()
    let noise = [UInt64](repeating: 0, count: count * byteCount / 8).flatMap { _ in
      let word = random.next()
      return (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) }
    }
    let text = text()
    return [
      Pages(name: "text", bytes: text, earlier: changed(text, every: 512)),
      Pages(name: "records", bytes: records(), earlier: changed(records(), every: 128)),
      Pages(name: "noise", bytes: noise, earlier: changed(noise, every: 2048)),
      Pages(name: "zeros", bytes: [UInt8](repeating: 0, count: count * byteCount), earlier: noise),
    ]
  }

  /// What a file holds, over and over, as a memory dump or any other.
  static func file(_ path: String) throws -> Pages {
    let content = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
    let bytes = (0..<count * byteCount).map { content.isEmpty ? 0 : content[$0 % content.count] }
    return Pages(name: "file", bytes: bytes, earlier: changed(bytes, every: 512))
  }

  /// Words by chance, the short ones more often, as in a log or in prose.
  private static func text() -> [UInt8] {
    var random = SystemRandomNumberGenerator()
    let words = (0..<2000).map { _ in
      (0..<Int.random(in: 2...9, using: &random)).map { _ in UInt8.random(in: 97...122, using: &random) } + [32]
    }
    var text: [UInt8] = []
    text.reserveCapacity(count * byteCount + 16)
    while text.count < count * byteCount {
      let rank = Double.random(in: 0..<1, using: &random)
      text += words[Int(rank * rank * rank * 2000)]
    }
    return [UInt8](text.prefix(count * byteCount))
  }

  /// Structures of 64 bytes with small numbers and pointers, as in a kernel's slabs.
  private static func records() -> [UInt8] {
    var random = SystemRandomNumberGenerator()
    var bytes = [UInt8](repeating: 0, count: count * byteCount)
    for start in stride(from: 0, to: bytes.count, by: 64) {
      let pointer = 0xFFFF_8880_0000_0000 | random.next() & 0xFFFF_FFC0
      for place in 0..<8 {
        bytes[start + place] = UInt8(truncatingIfNeeded: pointer >> (8 * place))
      }
      bytes[start + 16] = UInt8(truncatingIfNeeded: start >> 6)
      bytes[start + 24] = UInt8.random(in: 0...3, using: &random)
    }
    return bytes
  }

  /// The same with eight bytes changed in each `distance`.
  private static func changed(_ bytes: [UInt8], every distance: Int) -> [UInt8] {
    var changed = bytes
    for start in stride(from: 40, to: bytes.count - 8, by: distance) {
      for place in start..<start + 8 { changed[place] ^= 0x5A }
    }
    return changed
  }
}
