import LinuxIO

/// `struct virtio_net_hdr` (5.1.6): what of a frame is still to be done, and by whom.
///
/// Its first twelve bytes are the same whatever is negotiated, and the same on a TAP device.
public struct NetHeader: Equatable, Sendable {
  /// The bytes of the fields that every header with `VIRTIO_F_VERSION_1` has.
  public static let byteCount = 12

  /// `flags`
  public struct Flags: OptionSet, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum at `checksumStart` + `checksumOffset` is to be completed.
    public static let needsChecksum = Flags(rawValue: 1)
    /// `VIRTIO_NET_HDR_F_DATA_VALID`: the checksum was found right.
    public static let dataValid = Flags(rawValue: 2)
    /// `VIRTIO_NET_HDR_F_RSC_INFO`: `checksumStart` and `checksumOffset` tell of coalesced segments instead.
    public static let coalescingInfo = Flags(rawValue: 4)
  }

  /// `gso_type` without its congestion bit.
  public enum Segmentation: UInt8, Sendable {
    /// `VIRTIO_NET_HDR_GSO_NONE`
    case none = 0
    /// `VIRTIO_NET_HDR_GSO_TCPV4`
    case tcp4 = 1
    /// `VIRTIO_NET_HDR_GSO_UDP`: one datagram to be fragmented.
    case udpFragments = 3
    /// `VIRTIO_NET_HDR_GSO_TCPV6`
    case tcp6 = 4
    /// `VIRTIO_NET_HDR_GSO_UDP_L4`: many datagrams of one flow.
    case udpDatagrams = 5
  }

  public var flags: Flags = []
  public var segmentation = Segmentation.none
  /// `VIRTIO_NET_HDR_GSO_ECN`: the frame has TCP's CWR bit, which only the first segment keeps.
  public var hasCongestionBit = false
  /// `hdr_len`: a hint how many bytes of headers there are.
  public var headersByteCount: UInt16 = 0
  /// `gso_size`: the payload bytes of each segment, beside its headers.
  public var segmentByteCount: UInt16 = 0
  /// `csum_start`: where in the frame the sum begins.
  public var checksumStart: UInt16 = 0
  /// `csum_offset`: where its checksum lies, from there.
  public var checksumOffset: UInt16 = 0
  /// `num_buffers`: over how many buffers a received frame is spread.
  public var bufferCount: UInt16 = 0

  public init() {}

  /// Whether nothing of the frame is left to be done.
  public var isPlain: Bool {
    segmentation == .none && !flags.contains(.needsChecksum)
  }
}

extension NetHeader {
  private static let congestionBit: UInt8 = 0x80

  /// Reads a header; nil for a `gso_type` that the specification does not know.
  /// - Parameter offset: where its twelve bytes begin; to leave them outside `bytes` is the caller's mistake.
  package init?(_ bytes: borrowing [UInt8], at offset: Int) {
    // Two loads and two stores: bytes that were written one by one would hold up whoever copies them all soon after.
    let low = bytes.littleEndian(UInt64.self, at: offset)
    let high = bytes.littleEndian(UInt32.self, at: offset + 8)
    let kind = UInt8(truncatingIfNeeded: low >> 8)
    guard let segmentation = Segmentation(rawValue: kind & ~Self.congestionBit) else { return nil }
    flags = Flags(rawValue: UInt8(truncatingIfNeeded: low))
    self.segmentation = segmentation
    hasCongestionBit = kind & Self.congestionBit != 0
    headersByteCount = UInt16(truncatingIfNeeded: low >> 16)
    segmentByteCount = UInt16(truncatingIfNeeded: low >> 32)
    checksumStart = UInt16(truncatingIfNeeded: low >> 48)
    checksumOffset = UInt16(truncatingIfNeeded: high)
    bufferCount = UInt16(truncatingIfNeeded: high >> 16)
  }

  /// Writes all twelve bytes.
  func store(in bytes: inout [UInt8], at offset: Int) {
    let kind = segmentation.rawValue | (hasCongestionBit ? Self.congestionBit : 0)
    let sizes = UInt64(headersByteCount) << 16 | UInt64(segmentByteCount) << 32 | UInt64(checksumStart) << 48
    bytes.setLittleEndian(UInt64(flags.rawValue) | UInt64(kind) << 8 | sizes, at: offset)
    bytes.setLittleEndian(UInt32(checksumOffset) | UInt32(bufferCount) << 16, at: offset + 8)
  }
}

extension [UInt8] {
  /// What the network writes: high byte first.
  func bigEndian16(at offset: Int) -> UInt16 {
    UInt16(self[offset]) << 8 | UInt16(self[offset + 1])
  }

  mutating func setBigEndian16(_ value: UInt16, at offset: Int) {
    self[offset] = UInt8(truncatingIfNeeded: value >> 8)
    self[offset + 1] = UInt8(truncatingIfNeeded: value)
  }

  func bigEndian32(at offset: Int) -> UInt32 {
    UInt32(bigEndian16(at: offset)) << 16 | UInt32(bigEndian16(at: offset + 2))
  }

  mutating func setBigEndian32(_ value: UInt32, at offset: Int) {
    setBigEndian16(UInt16(truncatingIfNeeded: value >> 16), at: offset)
    setBigEndian16(UInt16(truncatingIfNeeded: value), at: offset + 2)
  }
}
