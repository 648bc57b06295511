import LinuxIO

/// Makes LZ4 blocks, and keeps the memory that it needs for that from one to the next.
///
/// What a block looks like depends on its source alone, never on the sources before.
public struct LZ4Compressor: ~Copyable {
  private static let slotBits: UInt32 = 12
  /// So many searches in vain, in binary places, until the stride grows by one: bytes that hold no match cost little.
  private static let patience = 6

  /// Where four bytes with this hash were seen last; the start, before any were: whether they are there is seen there.
  private var table = [UInt16](repeating: 0, count: 1 << slotBits)

  public init() {}

  /// Compresses `source` into `room` of `destination`.
  /// - Parameters:
  ///   - source: at most `LZ4Block.mostByteCount` bytes.
  ///   - room: where the block goes; all of it may be written. How long it is says what is still worth having: the
  ///     search ends as soon as the block is certain to be longer.
  /// - Returns: how many bytes the block has; nil when it would have more than `room`.
  public mutating func compress(
    _ source: Span<UInt8>, into destination: inout MutableSpan<UInt8>, within room: Range<Int>
  ) -> Int? {
    precondition(source.count <= LZ4Block.mostByteCount)
    precondition(room.lowerBound >= 0 && room.upperBound <= destination.count)
    var slots = table.mutableSpan
    slots.update(repeating: 0)
    var writer = LZ4Writer(position: room.lowerBound, end: room.upperBound)
    var position = 1
    var anchor = 0
    while let (start, match) = Self.nextMatch(source, position, in: &slots) {
      let (begin, end) = Self.extend(start, match, in: source, notBefore: anchor)
      guard
        writer.append(
          literals: anchor..<begin, of: source, matchByteCount: end &- begin, distance: start &- match,
          to: &destination)
      else { return nil }
      position = end
      anchor = end
      if end <= source.count &- LZ4Block.lastMatchStart { Self.enter(end &- 2, of: source, in: &slots) }
    }
    guard writer.append(last: anchor..<source.count, of: source, to: &destination) else { return nil }
    return writer.position &- room.lowerBound
  }

  @inline(__always)
  private static func slot(_ word: UInt32) -> Int {
    // The golden ratio's share of 32 bits: it spreads words that differ in few bits.
    Int((word &* 0x9E37_79B1) >> (32 - slotBits))
  }

  @inline(__always)
  private static func enter(_ position: Int, of source: Span<UInt8>, in slots: inout MutableSpan<UInt16>) {
    slots[slot(source.littleEndian(UInt32.self, at: position))] = UInt16(truncatingIfNeeded: position)
  }

  /// The next place from `start` on whose four bytes were seen before, and where.
  @inline(__always)
  private static func nextMatch(
    _ source: Span<UInt8>, _ start: Int, in slots: inout MutableSpan<UInt16>
  ) -> (position: Int, match: Int)? {
    let last = source.count &- LZ4Block.lastMatchStart
    var position = start
    var attempts = 1 << patience
    while position <= last {
      let word = source.littleEndian(UInt32.self, at: position)
      let slot = slot(word)
      let match = Int(slots[slot])
      slots[slot] = UInt16(truncatingIfNeeded: position)
      if source.littleEndian(UInt32.self, at: match) == word { return (position, match) }
      position &+= attempts >> patience
      attempts &+= 1
    }
    return nil
  }

  /// How far four equal bytes reach in both directions.
  @inline(__always)
  private static func extend(
    _ position: Int, _ match: Int, in source: Span<UInt8>, notBefore anchor: Int
  ) -> (begin: Int, end: Int) {
    var begin = position
    let distance = position &- match
    while begin > anchor, begin > distance, source[begin &- 1] == source[begin &- 1 &- distance] { begin &-= 1 }
    let limit = source.count &- LZ4Block.lastLiterals
    var end = position &+ LZ4Block.shortestMatch
    while end &+ 8 <= limit {
      let difference =
        source.littleEndian(UInt64.self, at: end) ^ source.littleEndian(UInt64.self, at: end &- distance)
      if difference != 0 { return (begin, end &+ difference.trailingZeroBitCount >> 3) }
      end &+= 8
    }
    while end < limit, source[end] == source[end &- distance] { end &+= 1 }
    return (begin, end)
  }
}

/// Writes the sequences of a block into the room there is.
private struct LZ4Writer {
  var position: Int
  let end: Int

  /// Appends literals and a match; false when there is no room.
  @inline(__always)
  mutating func append(
    literals: Range<Int>, of source: Span<UInt8>, matchByteCount: Int, distance: Int,
    to destination: inout MutableSpan<UInt8>
  ) -> Bool {
    let extra = matchByteCount &- LZ4Block.shortestMatch
    let needed = Self.byteCount(literals.count) &+ 2 &+ Self.extensionByteCount(extra)
    guard needed <= end &- position else { return false }
    append(literals, of: source, token: min(extra, LZ4Block.tokenMask), to: &destination)
    destination.setLittleEndian(UInt16(truncatingIfNeeded: distance), at: position)
    position &+= 2
    appendExtension(extra, to: &destination)
    return true
  }

  /// Appends the literals that end the block; false when there is no room.
  mutating func append(last literals: Range<Int>, of source: Span<UInt8>, to destination: inout MutableSpan<UInt8>)
    -> Bool
  {
    guard Self.byteCount(literals.count) <= end &- position else { return false }
    append(literals, of: source, token: 0, to: &destination)
    return true
  }

  @inline(__always)
  private mutating func append(
    _ literals: Range<Int>, of source: Span<UInt8>, token: Int, to destination: inout MutableSpan<UInt8>
  ) {
    destination[position] = UInt8(truncatingIfNeeded: min(literals.count, LZ4Block.tokenMask) << 4 | token)
    position &+= 1
    appendExtension(literals.count, to: &destination)
    destination.copyShort(literals.count, of: source, at: literals.lowerBound, to: position, end: end)
    position &+= literals.count
  }

  @inline(__always)
  private mutating func appendExtension(_ length: Int, to destination: inout MutableSpan<UInt8>) {
    var rest = length &- LZ4Block.tokenMask
    guard rest >= 0 else { return }
    while rest >= 255 {
      destination[position] = 255
      position &+= 1
      rest &-= 255
    }
    destination[position] = UInt8(truncatingIfNeeded: rest)
    position &+= 1
  }

  /// Bytes of a token with so many literals.
  @inline(__always)
  private static func byteCount(_ literals: Int) -> Int {
    1 &+ extensionByteCount(literals) &+ literals
  }

  @inline(__always)
  private static func extensionByteCount(_ length: Int) -> Int {
    length < LZ4Block.tokenMask ? 0 : (length &- LZ4Block.tokenMask) / 255 &+ 1
  }
}
