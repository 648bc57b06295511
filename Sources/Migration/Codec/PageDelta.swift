import LinuxIO

/// What has changed in a page since it was last sent.
///
/// A delta is a row of runs: how many bytes are as they were, how many differ, and those bytes. Both counts are LEB128, the
/// least significant seven bits first. What follows the last run is as it was; no run at all means no change.
public enum PageDelta {
  /// The longest page.
  public static let mostByteCount = 65536

  /// A count of this many bytes reaches beyond the longest page.
  private static let mostCountByteCount = 3
  /// Fewer equal bytes between two changes than this cost less as part of one run than as the counts of another.
  private static let shortestGap = 3

  /// Encodes how `new` differs from `old`, which must be as long, into `room` of `destination`.
  /// - Returns: how many bytes the delta has, 0 when nothing differs; nil when it would have more than `room`.
  public static func encode(
    old: Span<UInt8>, new: Span<UInt8>, into destination: inout MutableSpan<UInt8>, within room: Range<Int>
  ) -> Int? {
    precondition(old.count == new.count && new.count <= mostByteCount)
    precondition(room.lowerBound >= 0 && room.upperBound <= destination.count)
    var position = 0
    var output = room.lowerBound
    while true {
      let start = nextChange(old, new, from: position)
      if start == new.count { return output &- room.lowerBound }
      let left = room.upperBound &- output
      let end = changeEnd(old, new, from: start, enough: start &+ left)
      let unchanged = start &- position
      let changed = end &- start
      guard byteCount(unchanged) &+ byteCount(changed) &+ changed <= left else { return nil }
      append(unchanged, to: &destination, &output)
      append(changed, to: &destination, &output)
      destination.copyShort(changed, of: new, at: start, to: output, end: room.upperBound)
      output &+= changed
      position = end
    }
  }

  /// Applies a delta, which may come from anybody, to the page that `room` of `destination` holds.
  ///
  /// Nothing outside `room` is written. What `room` holds after false is not said.
  /// - Returns: whether the delta is one, and within the page.
  public static func apply(
    _ delta: Span<UInt8>, to destination: inout MutableSpan<UInt8>, within room: Range<Int>
  ) -> Bool {
    precondition(room.lowerBound >= 0 && room.upperBound <= destination.count)
    var input = 0
    var output = room.lowerBound
    while input < delta.count {
      guard let unchanged = count(delta, &input), let changed = count(delta, &input), changed > 0,
        changed <= delta.count &- input, unchanged <= room.upperBound &- output,
        changed <= room.upperBound &- output &- unchanged
      else { return false }
      output &+= unchanged
      destination.copy(input..<input &+ changed, of: delta, to: output)
      input &+= changed
      output &+= changed
    }
    return true
  }

  /// The first byte from `start` on that differs; the end when none does.
  @inline(__always)
  private static func nextChange(_ old: Span<UInt8>, _ new: Span<UInt8>, from start: Int) -> Int {
    var position = start
    while position &+ 64 <= new.count, difference64(old, new, at: position) == 0 { position &+= 64 }
    while position &+ 8 <= new.count {
      let difference = difference8(old, new, at: position)
      if difference != 0 { return position &+ difference.trailingZeroBitCount >> 3 }
      position &+= 8
    }
    while position < new.count, old[position] == new[position] { position &+= 1 }
    return position
  }

  /// Where the run of changes that starts at `start` ends. At `enough` or beyond it is not looked for any further.
  @inline(__always)
  private static func changeEnd(_ old: Span<UInt8>, _ new: Span<UInt8>, from start: Int, enough: Int) -> Int {
    var position = start &+ 1
    while position &+ 8 <= new.count, position < enough {
      let equal = zeroBytes(difference8(old, new, at: position))
      position &+= equal.trailingZeroBitCount >> 3
      guard equal != 0, position &+ 8 <= new.count else { continue }
      let gap = difference8(old, new, at: position).trailingZeroBitCount >> 3
      if gap >= shortestGap { return position }
      position &+= gap
    }
    while position < new.count, position < enough {
      var gapEnd = position
      while gapEnd < new.count, old[gapEnd] == new[gapEnd] { gapEnd &+= 1 }
      if gapEnd == new.count || gapEnd &- position >= shortestGap { return position }
      position = gapEnd &+ 1
    }
    return position
  }

  @inline(__always)
  private static func difference8(_ old: Span<UInt8>, _ new: Span<UInt8>, at offset: Int) -> UInt64 {
    old.littleEndian(UInt64.self, at: offset) ^ new.littleEndian(UInt64.self, at: offset)
  }

  @inline(__always)
  private static func difference64(_ old: Span<UInt8>, _ new: Span<UInt8>, at offset: Int) -> UInt128 {
    var difference: UInt128 = 0
    for part in 0..<4 {
      let place = offset &+ 16 &* part
      difference |= old.littleEndian(UInt128.self, at: place) ^ new.littleEndian(UInt128.self, at: place)
    }
    return difference
  }

  /// The top bit of every byte of `word` that is zero.
  @inline(__always)
  private static func zeroBytes(_ word: UInt64) -> UInt64 {
    let low: UInt64 = 0x7F7F_7F7F_7F7F_7F7F
    return ~(((word & low) &+ low) | word | low)
  }

  @inline(__always)
  private static func byteCount(_ count: Int) -> Int {
    count < 1 << 7 ? 1 : count < 1 << 14 ? 2 : 3
  }

  @inline(__always)
  private static func append(_ count: Int, to destination: inout MutableSpan<UInt8>, _ output: inout Int) {
    var rest = count
    while rest >= 1 << 7 {
      destination[output] = UInt8(truncatingIfNeeded: rest) | 1 << 7
      output &+= 1
      rest >>= 7
    }
    destination[output] = UInt8(truncatingIfNeeded: rest)
    output &+= 1
  }

  /// A count; nil when it is cut off or has more bytes than any that belongs in a delta.
  @inline(__always)
  private static func count(_ delta: Span<UInt8>, _ input: inout Int) -> Int? {
    var count = 0
    for place in 0..<mostCountByteCount {
      guard input < delta.count else { return nil }
      let byte = delta[input]
      input &+= 1
      count |= Int(byte & 0x7F) << (7 &* place)
      if byte < 1 << 7 { return count }
    }
    return nil
  }
}
