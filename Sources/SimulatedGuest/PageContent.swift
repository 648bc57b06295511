import GuestRAM

/// What the guest writes into a page: words that follow from the guest's seed, the page's owner and its generation.
///
/// A page begins with its owner and generation and ends with a checksum, so it can be told whose it is. Its second half
/// repeats the first: like much of real memory it can be compressed.
struct PageContent {
  var owner: PageCollection.Name
  var number: UInt32
  var generation: UInt32

  private static let halfByteCount = GuestPage.byteCount / 2

  /// The 4096 bytes of the page.
  func bytes(seed: UInt64) -> [UInt8] {
    let name = owner.rawValue << 56 | UInt64(number)
    var state = GuestRandom.mix(seed ^ GuestRandom.mix(name ^ UInt64(generation) << 32))
    var sum = name &+ UInt64(generation)
    var half = [UInt8](repeating: 0, count: Self.halfByteCount)
    var span = half.mutableSpan
    Self.put(name, at: 0, in: &span)
    Self.put(UInt64(generation), at: 8, in: &span)
    for offset in stride(from: 16, to: Self.halfByteCount, by: 8) {
      state &+= GuestRandom.gamma
      let word = GuestRandom.mix(state)
      sum = (sum << 1 | sum >> 63) ^ word
      Self.put(word, at: offset, in: &span)
    }
    var page = half + half
    var whole = page.mutableSpan
    Self.put(sum, at: GuestPage.byteCount - 8, in: &whole)
    return page
  }

  @inline(__always)
  private static func put(_ word: UInt64, at offset: Int, in span: inout MutableSpan<UInt8>) {
    for byte in 0..<8 { span[offset &+ byte] = UInt8(truncatingIfNeeded: word &>> UInt64(8 &* byte)) }
  }

  /// The first word in which two pages differ: its offset, and both values.
  static func difference(_ expected: [UInt8], _ found: [UInt8]) -> (offset: Int, expected: UInt64, found: UInt64)? {
    guard expected != found else { return nil }
    for offset in stride(from: 0, to: min(expected.count, found.count) - 7, by: 8) {
      let (a, b) = (word(of: expected, at: offset), word(of: found, at: offset))
      if a != b { return (offset, a, b) }
    }
    return nil
  }

  private static func word(of bytes: [UInt8], at offset: Int) -> UInt64 {
    (0..<8).reduce(0) { $0 | UInt64(bytes[offset + $1]) << UInt64(8 * $1) }
  }
}
