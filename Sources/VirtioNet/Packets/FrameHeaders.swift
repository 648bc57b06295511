/// Where the headers of a frame lie, as far as they are whole and agree with the frame's length.
///
/// Nothing is copied and nothing allocated. Every place is an index into the bytes that were read, and lies inside the
/// frame; what is broken, cut off or unknown is nil, and so is all behind it.
public struct FrameHeaders: Equatable, Sendable {
  /// What the EtherType names, when its header is whole.
  public enum Network: Sendable {
    case ip4
    case ip6
  }

  /// What follows the IP headers, when its header is whole.
  public enum Transport: Sendable {
    case tcp
    case udp
  }

  /// The most VLAN tags that are looked behind.
  public static let largestTagCount: UInt8 = 2
  /// The most IPv6 extension headers that are looked behind.
  public static let largestExtensionCount = 8

  // Small, so that it goes through registers: where things are in the frame, not in the bytes.
  private let start: Int
  private let byteCount: UInt32
  var packetEndInFrame: UInt32
  var networkStartInFrame: UInt16 = 14
  var transportStartInFrame: UInt16 = 14
  private var payloadStartInFrame: UInt16 = 14
  var protocolInFrame: UInt16 = 0
  var homeAddressInFrame: UInt16 = 0
  var routedAddressInFrame: UInt16 = 0
  private var firstTag: UInt16 = 0
  private var secondTag: UInt16 = 0

  /// The EtherType behind all tags that are looked behind; below 0x600 it is a length.
  public private(set) var etherType: UInt16
  /// How many VLAN tags (802.1Q, 802.1ad) there are.
  public private(set) var tagCount: UInt8 = 0
  /// The kind of IP packet; nil for other protocols, and for a packet that is cut off or says what cannot be.
  public internal(set) var network: Network?
  /// TCP or UDP, when the header is whole and the packet no fragment.
  public private(set) var transport: Transport?
  /// Whether the IP packet is a fragment, be it the first. Then `transport` is nil.
  public internal(set) var isFragment = false
  /// Whether IPv6 has extension headers.
  public internal(set) var hasExtensions = false

  /// - Parameter frame: where the frame lies in `bytes`; to leave it outside is the caller's mistake.
  /// - Returns: nil for a frame that is shorter than an Ethernet header, or longer than any.
  public init?(_ bytes: borrowing [UInt8], _ frame: Range<Int>) {
    guard frame.count >= PacketBatch.smallestFrameByteCount, frame.count <= PacketBatch.largestFrameByteCount else {
      return nil
    }
    // A span, because its bounds are known to hold for all bytes of a number at once.
    let bytes = bytes.span.extracting(frame)
    start = frame.lowerBound
    byteCount = UInt32(truncatingIfNeeded: frame.count)
    packetEndInFrame = byteCount
    etherType = bytes.bigEndian16(at: 12)
    readTags(bytes)
    transportStartInFrame = networkStartInFrame
    switch etherType {
    case EtherType.ip4: readIP4(bytes)
    case EtherType.ip6: readIP6(bytes)
    default: break
    }
    payloadStartInFrame = transportStartInFrame
    if network != nil, !isFragment { readTransport(bytes) }
  }

  private mutating func readTags(_ frame: Span<UInt8>) {
    while etherType == EtherType.tag || etherType == EtherType.outerTag, tagCount < Self.largestTagCount {
      let place = Int(networkStartInFrame)
      guard place + 4 <= frame.count else { return }
      let tag = frame.bigEndian16(at: place)
      if tagCount == 0 { firstTag = tag } else { secondTag = tag }
      tagCount += 1
      etherType = frame.bigEndian16(at: place + 2)
      networkStartInFrame += 4
    }
  }

  private mutating func readTransport(_ frame: Span<UInt8>) {
    let start = Int(transportStartInFrame)
    let room = Int(packetEndInFrame) - start
    switch frame[Int(protocolInFrame)] {
    case InternetProtocol.tcp:
      guard room >= 20 else { return }
      let byteCount = UInt16(frame[start + 12] >> 4) * 4
      guard byteCount >= 20, byteCount <= room else { return }
      transport = .tcp
      payloadStartInFrame = transportStartInFrame + byteCount
    case InternetProtocol.udp:
      guard room >= 8 else { return }
      let byteCount = Int(frame.bigEndian16(at: start + 4))
      // A driver may leave the length out of what is to be cut.
      guard byteCount == 0 || byteCount >= 8 && byteCount <= room else { return }
      transport = .udp
      payloadStartInFrame = transportStartInFrame + 8
    default: break
    }
  }
}

extension FrameHeaders {
  /// Where the frame lies.
  public var frame: Range<Int> { start..<start + Int(byteCount) }
  /// Where what the EtherType names begins.
  public var networkStart: Int { start + Int(networkStartInFrame) }
  /// Where the IP headers end, with options and extension headers.
  public var transportStart: Int { start + Int(transportStartInFrame) }
  /// Where the transport header ends; the same as `transportStart` without one.
  public var payloadStart: Int { start + Int(payloadStartInFrame) }
  /// Where the IP packet ends. Padding of the frame lies behind.
  public var packetEnd: Int { start + Int(packetEndInFrame) }
  /// Where the byte is that names the protocol behind the IP headers; without IP, of no meaning.
  public var protocolPlace: Int { start + Int(protocolInFrame) }
  /// Where IPv6's home address option has its address (RFC 6275, 6.3).
  public var homeAddressPlace: Int? { homeAddressInFrame == 0 ? nil : start + Int(homeAddressInFrame) }
  /// Where IPv6's routing header of type 2 has its address (RFC 6275, 6.4).
  public var routedAddressPlace: Int? { routedAddressInFrame == 0 ? nil : start + Int(routedAddressInFrame) }

  /// The tag control field of the outer VLAN tag, or the only one: priority and, in the low twelve bits, the VLAN.
  public var outerTag: UInt16? { tagCount > 0 ? firstTag : nil }
  /// The tag control field of the second VLAN tag.
  public var innerTag: UInt16? { tagCount > 1 ? secondTag : nil }

  /// To whom the frame goes.
  /// - Parameter bytes: those that the frame lies in.
  public func destination(in bytes: [UInt8]) -> EthernetAddress { EthernetAddress(bytes, at: start) }
  /// From whom it comes, likewise.
  public func source(in bytes: [UInt8]) -> EthernetAddress { EthernetAddress(bytes, at: start + 6) }
}

/// Numbers of the EtherType field.
enum EtherType {
  static let ip4: UInt16 = 0x0800
  static let arp: UInt16 = 0x0806
  static let rarp: UInt16 = 0x8035
  static let tag: UInt16 = 0x8100
  static let ip6: UInt16 = 0x86DD
  static let outerTag: UInt16 = 0x88A8
}

/// Numbers of IPv4's protocol field and IPv6's next header field.
enum InternetProtocol {
  static let hopByHop: UInt8 = 0
  static let tcp: UInt8 = 6
  static let udp: UInt8 = 17
  static let routing: UInt8 = 43
  static let fragment: UInt8 = 44
  static let icmp6: UInt8 = 58
  static let destinationOptions: UInt8 = 60
}

extension Span<UInt8> {
  @inline(__always)
  func bigEndian16(at offset: Int) -> UInt16 {
    let part = extracting(offset..<offset &+ 2)
    return UInt16(part[0]) << 8 | UInt16(part[1])
  }
}
