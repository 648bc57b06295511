public import DeviceState

/// The addresses that a guest was seen to use, from what it says to its neighbours: ARP, and IPv6 neighbour discovery.
public struct GuestNames: StateRecord {
  /// How many addresses of each kind are remembered; the oldest goes first.
  public static let most = 8

  /// IPv4 addresses, as numbers; the oldest first.
  public internal(set) var ipv4: [UInt32] = []
  /// IPv6 addresses, 16 bytes each; the oldest first.
  public internal(set) var ipv6: [[UInt8]] = []

  public init() {}

  public mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("ipv4", &ipv4)
    try coder.field("ipv6", &ipv6)
  }

  /// Whether they could have been remembered.
  var arePossible: Bool {
    ipv4.count <= Self.most && ipv6.count <= Self.most && ipv6.allSatisfy { $0.count == 16 }
  }

  /// The IPv4 addresses as people write them.
  public var ipv4Texts: [String] {
    ipv4.map { address in
      (0..<4).map { "\(address >> UInt32(24 - 8 * $0) & 0xFF)" }.joined(separator: ".")
    }
  }

  /// The IPv6 addresses as people write them, each of the eight groups written out.
  public var ipv6Texts: [String] {
    ipv6.map { address in
      stride(from: 0, to: 16, by: 2).map { String(address.bigEndian16(at: $0), radix: 16) }.joined(separator: ":")
    }
  }

  private static let arp: UInt16 = 0x0806
  private static let ipv6Type: UInt16 = 0x86DD

  /// Looks at packets that the guest sends.
  mutating func look(at batch: borrowing PacketBatch) {
    for index in 0..<batch.count {
      let frame = batch.frame(index)
      switch batch.bytes.bigEndian16(at: frame.lowerBound + 12) {
      case Self.arp: lookAtARP(batch.bytes, frame.dropFirst(14))
      case Self.ipv6Type: lookAtNeighbourDiscovery(batch.bytes, frame.dropFirst(14))
      default: break
      }
    }
  }

  /// RFC 826: the sender's protocol address.
  private mutating func lookAtARP(_ bytes: [UInt8], _ packet: Range<Int>) {
    guard packet.count >= 28, bytes.bigEndian32(at: packet.lowerBound) == 0x0001_0800 else { return }
    let address = bytes.bigEndian32(at: packet.lowerBound + 14)
    // A probe asks whether an address is free, and names none of its own.
    guard address != 0 else { return }
    ipv4.remember(address, most: Self.most)
  }

  /// RFC 4861: the target of a neighbour advertisement, the source of a solicitation.
  private mutating func lookAtNeighbourDiscovery(_ bytes: [UInt8], _ packet: Range<Int>) {
    let start = packet.lowerBound
    guard packet.count >= 64, bytes[start + 6] == 58, bytes[start + 7] == 255 else { return }
    let address: ArraySlice<UInt8>
    switch bytes[start + 40] {
    case 135: address = bytes[start + 8..<start + 24]
    case 136: address = bytes[start + 48..<start + 64]
    default: return
    }
    guard address.contains(where: { $0 != 0 }), address.first != 0xFF else { return }
    ipv6.remember(Array(address), most: Self.most)
  }
}

extension Array where Element: Equatable {
  fileprivate mutating func remember(_ element: Element, most: Int) {
    guard !contains(element) else { return }
    if count == most { removeFirst() }
    append(element)
  }
}
