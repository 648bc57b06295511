/// The checksum of IP, TCP, UDP and ICMPv6: the ones' complement of a ones' complement sum (RFC 1071).
public struct InternetChecksum: Sendable {
  /// The sum of 32-bit words as they lie in memory, low byte first; a sum may be swapped when it is done (RFC 1071, 2).
  private var sum: UInt64 = 0

  public init() {}

  /// Adds bytes. The last of an odd number counts as if a zero followed, so only the last range may be odd.
  public mutating func add(_ bytes: borrowing [UInt8], _ range: Range<Int>) {
    let all = bytes.span.extracting(range)
    let blockCount = all.count / 32
    // Blocks of a length that is known need one check each and take one load for eight bytes.
    for block in 0..<blockCount {
      let part = all.extracting(block &* 32..<block &* 32 &+ 32)
      sum &+= part.halves(at: 0) &+ part.halves(at: 8) &+ part.halves(at: 16) &+ part.halves(at: 24)
    }
    var offset = blockCount &* 32
    while all.count &- offset >= 8 {
      sum &+= all.extracting(offset..<offset &+ 8).halves(at: 0)
      offset &+= 8
    }
    var shift: UInt64 = 0
    while offset < all.count {
      sum &+= UInt64(all[offset]) << shift
      shift ^= 8
      offset &+= 1
    }
  }

  /// Adds a number as two bytes, high byte first.
  public mutating func add(_ number: UInt16) {
    sum &+= UInt64(number.byteSwapped)
  }

  /// Takes away what was added with such a number.
  public mutating func subtract(_ number: UInt16) {
    add(~number)
  }

  /// Adds the pseudo header that TCP and UDP are summed with, except the length: source, destination and protocol.
  /// - Parameter headers: those of an IP packet whose transport is known to be TCP or UDP.
  public mutating func addPseudoHeader(_ bytes: borrowing [UInt8], _ headers: FrameHeaders) {
    let start = headers.networkStart
    switch headers.network {
    case .ip4: add(bytes, start + 12..<start + 20)
    case .ip6: add(bytes, start + 8..<start + 40)
    case nil: return
    }
    add(UInt16(bytes[headers.protocolPlace]))
  }

  /// The ones' complement sum. It is 0xFFFF over bytes that hold their own right checksum.
  public var folded: UInt16 {
    var folded = (sum & 0xFFFF_FFFF) &+ sum >> 32
    folded = (folded & 0xFFFF) &+ folded >> 16
    folded = (folded & 0xFFFF) &+ folded >> 16
    folded = (folded & 0xFFFF) &+ folded >> 16
    return UInt16(truncatingIfNeeded: folded).byteSwapped
  }

  /// What goes into an IPv4 or ICMPv6 header, whose checksum field was zero.
  public var value: UInt16 { ~folded }

  /// What goes into a TCP or UDP header. Zero, which in UDP means that there is no checksum, becomes 0xFFFF, which is
  /// as right (RFC 768).
  public var transportValue: UInt16 { folded == 0xFFFF ? 0xFFFF : ~folded }
}

extension Span<UInt8> {
  /// The sum of two 32-bit words. Written out, because this is what becomes a single load.
  @inline(__always)
  fileprivate func halves(at offset: Int) -> UInt64 {
    let low =
      UInt64(self[offset]) | UInt64(self[offset &+ 1]) << 8 | UInt64(self[offset &+ 2]) << 16
      | UInt64(self[offset &+ 3]) << 24
    let high =
      UInt64(self[offset &+ 4]) | UInt64(self[offset &+ 5]) << 8 | UInt64(self[offset &+ 6]) << 16
      | UInt64(self[offset &+ 7]) << 24
    return low &+ high
  }
}
