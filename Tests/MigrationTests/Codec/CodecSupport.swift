import Support

@testable import Migration

/// Bytes of several kinds to code.
enum Content: CaseIterable {
  case zeros, noise, text, periodic, sparse

  func bytes(_ count: Int, using random: inout SeededGenerator) -> [UInt8] {
    switch self {
    case .zeros: return [UInt8](repeating: 0, count: count)
    case .noise:
      var word: UInt64 = 0
      return (0..<count).map {
        word = $0 % 8 == 0 ? random.next() : word >> 8
        return UInt8(truncatingIfNeeded: word)
      }
    case .text:
      let words = ["the ", "guest ", "writes ", "while ", "its ", "pages ", "move, ", "and so on; "]
      var text: [UInt8] = []
      while text.count < count { text += Array(words[Int.random(in: 0..<words.count, using: &random)].utf8) }
      return [UInt8](text.prefix(count))
    case .periodic:
      let period = Int.random(in: 1...40, using: &random)
      return (0..<count).map { UInt8(truncatingIfNeeded: $0 % period &* 7) }
    case .sparse: return (0..<count).map { _ in random.once(in: 50) ? UInt8.random(in: 1...255, using: &random) : 0 }
    }
  }
}

/// Bytes beside those that are lent, to see that they are let alone.
private let margin = [UInt8](repeating: 0xEE, count: 24)

/// Lends room for `byteCount` bytes; the bytes written there, and whether those around were let alone.
func inRoom<Outcome>(
  _ content: [UInt8], _ body: (inout MutableSpan<UInt8>, Range<Int>) -> Outcome
) -> (outcome: Outcome, bytes: [UInt8], isConfined: Bool) {
  let room = margin.count..<margin.count + content.count
  var whole = margin + content + margin
  var span = whole.mutableSpan
  let outcome = body(&span, room)
  return (
    outcome, [UInt8](whole[room]),
    whole.prefix(margin.count) == margin[...] && whole.suffix(margin.count) == margin[...]
  )
}

/// The block of `source`, when it has at most so many bytes.
func lz4Block(_ source: [UInt8], atMost most: Int, _ compressor: inout LZ4Compressor) -> [UInt8]? {
  var whole = [UInt8](repeating: 0xEE, count: most + margin.count)
  var span = whole.mutableSpan
  guard let count = compressor.compress(source.span, into: &span, within: 0..<most) else { return nil }
  precondition(whole.suffix(margin.count) == margin[...], "written beyond the room")
  return [UInt8](whole.prefix(count))
}

/// The block of `source` in any case.
func lz4Block(_ source: [UInt8]) -> [UInt8] {
  var compressor = LZ4Compressor()
  return lz4Block(source, atMost: source.count + source.count / 255 + 16, &compressor) ?? []
}

/// What a block holds; nil when it is not one of so many bytes. A trap if anything beside the room was written.
func expanded(_ block: [UInt8], _ byteCount: Int) -> [UInt8]? {
  let result = inRoom([UInt8](repeating: 0xDD, count: byteCount)) {
    LZ4Block.decompress(block.span, into: &$0, within: $1)
  }
  precondition(result.isConfined, "written beyond the room")
  return result.outcome ? result.bytes : nil
}

/// The delta from `old` to `new`, when it has at most so many bytes.
func pageDelta(_ old: [UInt8], _ new: [UInt8], atMost most: Int) -> [UInt8]? {
  var whole = [UInt8](repeating: 0xEE, count: most + margin.count)
  var span = whole.mutableSpan
  guard let count = PageDelta.encode(old: old.span, new: new.span, into: &span, within: 0..<most) else { return nil }
  precondition(whole.suffix(margin.count) == margin[...], "written beyond the room")
  return [UInt8](whole.prefix(count))
}

/// `old` with a delta applied; nil when it is not one. A trap if anything beside the page was written.
func applied(_ delta: [UInt8], to old: [UInt8]) -> [UInt8]? {
  let result = inRoom(old) { PageDelta.apply(delta.span, to: &$0, within: $1) }
  precondition(result.isConfined, "written beyond the room")
  return result.outcome ? result.bytes : nil
}
