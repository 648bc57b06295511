import LinuxIO

extension MutableSpan<UInt8> {
  /// Copies what is mostly a few bytes to `offset`.
  ///
  /// Whole pieces of 16 bytes are copied where both sides have them, so what follows the copy, up to `end`, may change.
  @inline(__always)
  mutating func copyShort(_ byteCount: Int, of source: Span<UInt8>, at input: Int, to offset: Int, end: Int) {
    let rounded = (byteCount &+ 15) & ~15
    guard rounded <= 64, rounded <= source.count &- input, rounded <= end &- offset else {
      return copy(input..<input &+ byteCount, of: source, to: offset)
    }
    var done = 0
    while done < byteCount {
      setLittleEndian(source.littleEndian(UInt128.self, at: input &+ done), at: offset &+ done)
      done &+= 16
    }
  }
}
