/// What may be left undone in a frame for whoever gets it (5.1.3.1, 5.1.6.5.8).
public struct Offloads: OptionSet, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// A checksum to be completed. Without it, nothing else may be left undone.
  public static let checksum = Offloads(rawValue: 1)
  /// TCP over IPv4 to be cut into segments.
  public static let tcp4 = Offloads(rawValue: 2)
  /// TCP over IPv6 to be cut into segments.
  public static let tcp6 = Offloads(rawValue: 4)
  /// TCP segments with the congestion bit.
  public static let congestion = Offloads(rawValue: 8)
  /// A datagram to be fragmented.
  public static let udpFragments = Offloads(rawValue: 16)
  /// UDP over IPv4 to be cut into datagrams.
  public static let udp4 = Offloads(rawValue: 32)
  /// UDP over IPv6 to be cut into datagrams.
  public static let udp6 = Offloads(rawValue: 64)

  public static let all: Offloads = [.checksum, .tcp4, .tcp6, .congestion, .udpFragments, .udp4, .udp6]
}
