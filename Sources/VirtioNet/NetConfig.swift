import LinuxIO

/// `struct virtio_net_config`: 24 bytes, little-endian (5.1.4). A driver looks at no field whose feature it did not accept.
struct NetConfig {
  static let byteCount = 24
  /// The longest key that RSS may have, in bytes: what Linux and Windows use.
  static let largestKeyByteCount = 40
  /// The most entries that an indirection table may have.
  static let largestTableCount: UInt16 = 128

  /// `VIRTIO_NET_S_LINK_UP`
  private static let linkUp: UInt8 = 1
  /// `VIRTIO_NET_S_ANNOUNCE`
  private static let announce: UInt8 = 2

  private(set) var bytes = [UInt8](repeating: 0, count: byteCount)

  init(_ options: NetOptions) {
    address = options.address
    bytes.setLittleEndian(UInt16(clamping: options.pairCount), at: 8)
    bytes.setLittleEndian(options.mtu ?? 0, at: 10)
    let speed = options.speed ?? .max
    bytes.setLittleEndian(speed, at: 12)
    // Full duplex is 1 in 5.1.4 and in every driver, though 5.1.4.1 has it the other way round.
    bytes[16] = options.speed == nil ? 0xFF : 1
    bytes[17] = UInt8(Self.largestKeyByteCount)
    bytes.setLittleEndian(Self.largestTableCount, at: 18)
    bytes.setLittleEndian(HashTypes.all.rawValue, at: 20)
  }

  var address: EthernetAddress {
    get { EthernetAddress(bytes, at: 0) }
    set { bytes.replaceSubrange(0..<6, with: newValue.bytes) }
  }

  var isLinkUp: Bool {
    get { bytes[6] & Self.linkUp != 0 }
    set { bytes[6] = bytes[6] & ~Self.linkUp | (newValue ? Self.linkUp : 0) }
  }

  var asksToAnnounce: Bool {
    get { bytes[6] & Self.announce != 0 }
    set { bytes[6] = bytes[6] & ~Self.announce | (newValue ? Self.announce : 0) }
  }

  /// The largest IP packet that the driver may use; 0 when nothing is said of it.
  var mtu: UInt16 {
    get { bytes.littleEndian(UInt16.self, at: 10) }
    set { bytes.setLittleEndian(newValue, at: 10) }
  }
}
