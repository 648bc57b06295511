/// Of which packets a hash is made, and over which of their fields (5.1.6.4.3.1).
public struct HashTypes: OptionSet, Hashable, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// `VIRTIO_NET_HASH_TYPE_IPv4`
  public static let ip4 = HashTypes(.ip4)
  /// `VIRTIO_NET_HASH_TYPE_TCPv4`
  public static let tcp4 = HashTypes(.tcp4)
  /// `VIRTIO_NET_HASH_TYPE_UDPv4`
  public static let udp4 = HashTypes(.udp4)
  /// `VIRTIO_NET_HASH_TYPE_IPv6`
  public static let ip6 = HashTypes(.ip6)
  /// `VIRTIO_NET_HASH_TYPE_TCPv6`
  public static let tcp6 = HashTypes(.tcp6)
  /// `VIRTIO_NET_HASH_TYPE_UDPv6`
  public static let udp6 = HashTypes(.udp6)
  /// `VIRTIO_NET_HASH_TYPE_IP_EX`
  public static let ip6Extended = HashTypes(.ip6Extended)
  /// `VIRTIO_NET_HASH_TYPE_TCP_EX`
  public static let tcp6Extended = HashTypes(.tcp6Extended)
  /// `VIRTIO_NET_HASH_TYPE_UDP_EX`
  public static let udp6Extended = HashTypes(.udp6Extended)

  /// All that `FlowHash` makes.
  public static let all = HashTypes(rawValue: 0x1FF)

  /// The type that is reported so; empty for `HashReport.none`.
  init(_ report: HashReport) {
    rawValue = (1 << UInt32(report.rawValue)) >> 1
  }
}

/// `hash_report`: which hash a packet has (5.1.6.4.5).
public enum HashReport: UInt16, Sendable {
  /// `VIRTIO_NET_HASH_REPORT_NONE`
  case none = 0
  /// `VIRTIO_NET_HASH_REPORT_IPv4`
  case ip4 = 1
  /// `VIRTIO_NET_HASH_REPORT_TCPv4`
  case tcp4 = 2
  /// `VIRTIO_NET_HASH_REPORT_UDPv4`
  case udp4 = 3
  /// `VIRTIO_NET_HASH_REPORT_IPv6`
  case ip6 = 4
  /// `VIRTIO_NET_HASH_REPORT_TCPv6`
  case tcp6 = 5
  /// `VIRTIO_NET_HASH_REPORT_UDPv6`
  case udp6 = 6
  /// `VIRTIO_NET_HASH_REPORT_IPv6_EX`
  case ip6Extended = 7
  /// `VIRTIO_NET_HASH_REPORT_TCPv6_EX`
  case tcp6Extended = 8
  /// `VIRTIO_NET_HASH_REPORT_UDPv6_EX`
  case udp6Extended = 9
}
