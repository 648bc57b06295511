import DeviceState

/// Which frames the driver wants (5.1.6.5.1 to 5.1.6.5.3).
struct ReceiveFilter: StateRecord {
  /// `VIRTIO_NET_CTRL_RX`'s modes, by the number of their commands.
  struct Modes: OptionSet, StateValue {
    let rawValue: UInt8

    static let promiscuous = Modes(rawValue: 1 << 0)
    static let allMulticast = Modes(rawValue: 1 << 1)
    static let allUnicast = Modes(rawValue: 1 << 2)
    static let noMulticast = Modes(rawValue: 1 << 3)
    static let noUnicast = Modes(rawValue: 1 << 4)
    static let noBroadcast = Modes(rawValue: 1 << 5)
  }

  /// How many addresses of each kind are kept. A driver that names more gets all of that kind.
  static let mostAddresses = 64

  /// A driver that gives no commands wants everything.
  var modes: Modes = .promiscuous
  var unicast: [EthernetAddress] = []
  var multicast: [EthernetAddress] = []
  var hasTooManyUnicast = false
  var hasTooManyMulticast = false
  /// One bit for each VLAN that is wanted, 64 words of 64; empty while all are.
  var vlans: [UInt64] = []

  init() {}

  mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("modes", &modes)
    try coder.field("unicast", &unicast)
    try coder.field("multicast", &multicast)
    try coder.field("hasTooManyUnicast", &hasTooManyUnicast)
    try coder.field("hasTooManyMulticast", &hasTooManyMulticast)
    try coder.field("vlans", &vlans)
  }

  /// Begins to filter by VLAN, with none wanted.
  mutating func beginVLANs() {
    vlans = [UInt64](repeating: 0, count: 64)
  }

  mutating func setVLAN(_ number: UInt16, isWanted: Bool) {
    let bit = UInt64(1) << UInt64(number % 64)
    let word = Int(number / 64)
    vlans[word] = isWanted ? vlans[word] | bit : vlans[word] & ~bit
  }

  /// Whether every frame is wanted, so that none need be looked at.
  var acceptsAll: Bool { vlans.isEmpty && modes.contains(.promiscuous) }

  /// Whether the frame that begins at `offset`, and is at least an Ethernet header long, is wanted.
  func accepts(_ bytes: [UInt8], at offset: Int, own: EthernetAddress) -> Bool {
    acceptsVLAN(bytes, at: offset) && acceptsAddress(EthernetAddress(bytes, at: offset), own)
  }

  private func acceptsVLAN(_ bytes: [UInt8], at offset: Int) -> Bool {
    guard !vlans.isEmpty, bytes.bigEndian16(at: offset + 12) == 0x8100, bytes.count >= offset + 16 else { return true }
    let number = bytes.bigEndian16(at: offset + 14) & 0xFFF
    return vlans[Int(number / 64)] >> UInt64(number % 64) & 1 != 0
  }

  private func acceptsAddress(_ address: EthernetAddress, _ own: EthernetAddress) -> Bool {
    if modes.contains(.promiscuous) { return true }
    if address == .broadcast { return !modes.contains(.noBroadcast) }
    if address.isMulticast {
      if modes.contains(.noMulticast) { return false }
      return modes.contains(.allMulticast) || hasTooManyMulticast || multicast.contains(address)
    }
    if modes.contains(.noUnicast) { return false }
    return address == own || modes.contains(.allUnicast) || hasTooManyUnicast || unicast.contains(address)
  }

  /// Whether every field could have come from a driver.
  /// - Parameter choosesVLANs: whether it has agreed to `VIRTIO_NET_F_CTRL_VLAN`.
  func check(choosesVLANs: Bool) throws(StateError) {
    let wordCount = choosesVLANs ? 64 : 0
    guard vlans.count == wordCount else {
      throw .invalidValue(
        section: NetState.section, field: "filter.vlans", reason: "has \(vlans.count) words and not \(wordCount)")
    }
    guard unicast.count <= Self.mostAddresses, multicast.count <= Self.mostAddresses else {
      throw .invalidValue(
        section: NetState.section, field: "filter", reason: "has more than \(Self.mostAddresses) addresses of a kind")
    }
  }
}
