import LinuxIO

/// The LZ4 block format, as its public description has it: what is common to both directions, and the way back.
///
/// A block is a row of sequences: a token whose upper four bits are a number of literals and whose lower four bits are the
/// length of a match less four, the literals, and how far back the match lies, in two little-endian bytes. A nibble of 15
/// goes on in further bytes, up to and with the first that is not 255. The last sequence ends after its literals.
public enum LZ4Block {
  /// The longest source of a block made here; every match in it can then be reached in two bytes.
  public static let mostByteCount = 65536

  /// A match is at least so long.
  static let shortestMatch = 4
  /// A block's last bytes are literals.
  static let lastLiterals = 5
  /// No match starts nearer to the end of what a block holds.
  static let lastMatchStart = 12
  /// The largest length within a token.
  static let tokenMask = 15

  /// Expands a block, which may come from anybody, into exactly `room` of `destination`.
  ///
  /// Nothing outside `room` is written, and nothing before it is read. What `room` holds after false is not said.
  /// - Returns: whether the block is whole and holds as many bytes as `room` has.
  public static func decompress(
    _ block: Span<UInt8>, into destination: inout MutableSpan<UInt8>, within room: Range<Int>
  ) -> Bool {
    precondition(room.lowerBound >= 0 && room.upperBound <= destination.count)
    var input = 0
    var output = room.lowerBound
    while input < block.count {
      let token = Int(block[input])
      input &+= 1
      if takeShort(token, of: block, &input, into: &destination, within: room, &output) { continue }
      guard let literals = length(token >> 4, of: block, &input),
        literals <= block.count &- input, literals <= room.upperBound &- output
      else { return false }
      destination.copyShort(literals, of: block, at: input, to: output, end: room.upperBound)
      input &+= literals
      output &+= literals
      if input == block.count { return output == room.upperBound }

      guard input &+ 2 <= block.count else { return false }
      let distance = Int(block.littleEndian(UInt16.self, at: input))
      input &+= 2
      guard distance > 0, distance <= output &- room.lowerBound,
        let extra = length(token & tokenMask, of: block, &input),
        extra &+ shortestMatch <= room.upperBound &- output
      else { return false }
      repeatMatch(extra &+ shortestMatch, from: distance, in: &destination, at: output, end: room.upperBound)
      output &+= extra &+ shortestMatch
    }
    return false
  }

  /// Expands a sequence as most are, with lengths that end in the token and a match that is not too near, by copies that
  /// do not depend on the lengths: far from both ends what they write in excess is overwritten by what follows.
  ///
  /// A plain shortcut: without it every sequence expands to the same bytes.
  /// - Returns: whether it was done; if not, nothing has changed but excess bytes.
  @inline(__always)
  private static func takeShort(
    _ token: Int, of block: Span<UInt8>, _ input: inout Int, into destination: inout MutableSpan<UInt8>,
    within room: Range<Int>, _ output: inout Int
  ) -> Bool {
    let literals = token >> 4
    let extra = token & tokenMask
    guard literals != tokenMask, extra != tokenMask, input &+ 18 <= block.count, output &+ 36 <= room.upperBound
    else { return false }
    destination.setLittleEndian(block.littleEndian(UInt128.self, at: input), at: output)
    let position = output &+ literals
    let distance = Int(block.littleEndian(UInt16.self, at: input &+ literals))
    guard distance >= 8, distance <= position &- room.lowerBound else { return false }
    destination.setLittleEndian(destination.littleEndian(UInt64.self, at: position &- distance), at: position)
    destination.setLittleEndian(destination.littleEndian(UInt64.self, at: position &+ 8 &- distance), at: position &+ 8)
    destination.setLittleEndian(
      destination.littleEndian(UInt16.self, at: position &+ 16 &- distance), at: position &+ 16)
    input &+= literals &+ 2
    output = position &+ extra &+ shortestMatch
    return true
  }

  /// A length that starts in a token; nil when the block ends within it.
  @inline(__always)
  private static func length(_ nibble: Int, of block: Span<UInt8>, _ input: inout Int) -> Int? {
    guard nibble == tokenMask else { return nibble }
    var length = nibble
    while input < block.count {
      let byte = block[input]
      input &+= 1
      // Cannot overflow: a block would have to be longer than memory.
      length &+= Int(byte)
      if byte != 255 { return length }
    }
    return nil
  }

  /// Repeats what lies `distance` back, which may be less than `count`: a match may run into itself.
  @inline(__always)
  private static func repeatMatch(
    _ count: Int, from distance: Int, in destination: inout MutableSpan<UInt8>, at output: Int, end: Int
  ) {
    var position = output
    let matchEnd = output &+ count
    var distance = distance
    if distance < 8 {
      repeatBytes(upTo: min(output &+ 8, matchEnd), from: distance, in: &destination, &position)
      // What has a period also has every multiple of it; there are enough bytes now to go back by this one.
      let period = distance
      while distance < 8 { distance &+= period }
    }
    if distance >= 16 {
      while position < matchEnd, position &+ 16 <= end {
        destination.setLittleEndian(destination.littleEndian(UInt128.self, at: position &- distance), at: position)
        position &+= 16
      }
    }
    while position < matchEnd, position &+ 8 <= end {
      destination.setLittleEndian(destination.littleEndian(UInt64.self, at: position &- distance), at: position)
      position &+= 8
    }
    repeatBytes(upTo: matchEnd, from: distance, in: &destination, &position)
  }

  @inline(__always)
  private static func repeatBytes(
    upTo end: Int, from distance: Int, in destination: inout MutableSpan<UInt8>, _ position: inout Int
  ) {
    while position < end {
      destination[position] = destination[position &- distance]
      position &+= 1
    }
  }
}
