public import VirtioCore

/// The feature bits of the network device (5.1.3).
extension Feature {
  /// `VIRTIO_NET_F_CSUM`
  public static let netChecksum = Feature(rawValue: 0)
  /// `VIRTIO_NET_F_GUEST_CSUM`
  public static let netGuestChecksum = Feature(rawValue: 1)
  /// `VIRTIO_NET_F_CTRL_GUEST_OFFLOADS`
  public static let netControlGuestOffloads = Feature(rawValue: 2)
  /// `VIRTIO_NET_F_MTU`
  public static let netMTU = Feature(rawValue: 3)
  /// `VIRTIO_NET_F_MAC`
  public static let netMAC = Feature(rawValue: 5)
  /// `VIRTIO_NET_F_GUEST_TSO4`
  public static let netGuestTSO4 = Feature(rawValue: 7)
  /// `VIRTIO_NET_F_GUEST_TSO6`
  public static let netGuestTSO6 = Feature(rawValue: 8)
  /// `VIRTIO_NET_F_GUEST_ECN`
  public static let netGuestECN = Feature(rawValue: 9)
  /// `VIRTIO_NET_F_GUEST_UFO`
  public static let netGuestUFO = Feature(rawValue: 10)
  /// `VIRTIO_NET_F_HOST_TSO4`
  public static let netHostTSO4 = Feature(rawValue: 11)
  /// `VIRTIO_NET_F_HOST_TSO6`
  public static let netHostTSO6 = Feature(rawValue: 12)
  /// `VIRTIO_NET_F_HOST_ECN`
  public static let netHostECN = Feature(rawValue: 13)
  /// `VIRTIO_NET_F_HOST_UFO`
  public static let netHostUFO = Feature(rawValue: 14)
  /// `VIRTIO_NET_F_MRG_RXBUF`
  public static let netMergeableBuffers = Feature(rawValue: 15)
  /// `VIRTIO_NET_F_STATUS`
  public static let netStatus = Feature(rawValue: 16)
  /// `VIRTIO_NET_F_CTRL_VQ`
  public static let netControlQueue = Feature(rawValue: 17)
  /// `VIRTIO_NET_F_CTRL_RX`
  public static let netControlReceive = Feature(rawValue: 18)
  /// `VIRTIO_NET_F_CTRL_VLAN`
  public static let netControlVLAN = Feature(rawValue: 19)
  /// `VIRTIO_NET_F_CTRL_RX_EXTRA`
  public static let netControlReceiveExtra = Feature(rawValue: 20)
  /// `VIRTIO_NET_F_GUEST_ANNOUNCE`
  public static let netGuestAnnounce = Feature(rawValue: 21)
  /// `VIRTIO_NET_F_MQ`
  public static let netMultiqueue = Feature(rawValue: 22)
  /// `VIRTIO_NET_F_CTRL_MAC_ADDR`
  public static let netControlMACAddress = Feature(rawValue: 23)
  /// `VIRTIO_NET_F_VQ_NOTF_COAL`
  public static let netQueueNotificationCoalescing = Feature(rawValue: 52)
  /// `VIRTIO_NET_F_NOTF_COAL`
  public static let netNotificationCoalescing = Feature(rawValue: 53)
  /// `VIRTIO_NET_F_GUEST_USO4`
  public static let netGuestUSO4 = Feature(rawValue: 54)
  /// `VIRTIO_NET_F_GUEST_USO6`
  public static let netGuestUSO6 = Feature(rawValue: 55)
  /// `VIRTIO_NET_F_HOST_USO`
  public static let netHostUSO = Feature(rawValue: 56)
  /// `VIRTIO_NET_F_HASH_REPORT`
  public static let netHashReport = Feature(rawValue: 57)
  /// `VIRTIO_NET_F_RSS`
  public static let netRSS = Feature(rawValue: 60)
  /// `VIRTIO_NET_F_SPEED_DUPLEX`
  public static let netSpeedDuplex = Feature(rawValue: 63)

  /// The names of the features that the device may have, by bit, without `VIRTIO_NET_F_`; those too that are not offered here.
  public static let netNames: [Int: String] = [
    0: "CSUM", 1: "GUEST_CSUM", 2: "CTRL_GUEST_OFFLOADS", 3: "MTU", 5: "MAC", 7: "GUEST_TSO4", 8: "GUEST_TSO6",
    9: "GUEST_ECN", 10: "GUEST_UFO", 11: "HOST_TSO4", 12: "HOST_TSO6", 13: "HOST_ECN", 14: "HOST_UFO",
    15: "MRG_RXBUF", 16: "STATUS", 17: "CTRL_VQ", 18: "CTRL_RX", 19: "CTRL_VLAN", 20: "CTRL_RX_EXTRA",
    21: "GUEST_ANNOUNCE", 22: "MQ", 23: "CTRL_MAC_ADDR", 52: "VQ_NOTF_COAL", 53: "NOTF_COAL", 54: "GUEST_USO4",
    55: "GUEST_USO6", 56: "HOST_USO", 57: "HASH_REPORT", 59: "GUEST_HDRLEN", 60: "RSS", 61: "RSC_EXT",
    62: "STANDBY", 63: "SPEED_DUPLEX",
  ]
}

extension Offloads {
  private static let guestFeatures: [(Feature, Offloads)] = [
    (.netGuestChecksum, .checksum), (.netGuestTSO4, .tcp4), (.netGuestTSO6, .tcp6), (.netGuestECN, .congestion),
    (.netGuestUFO, .udpFragments), (.netGuestUSO4, .udp4), (.netGuestUSO6, .udp6),
  ]

  private static let hostFeatures: [(Feature, Offloads)] = [
    (.netChecksum, .checksum), (.netHostTSO4, .tcp4), (.netHostTSO6, .tcp6), (.netHostECN, .congestion),
    (.netHostUFO, .udpFragments), (.netHostUSO, [.udp4, .udp6]),
  ]

  /// The features by which a driver takes them all, and leaves them all to the device.
  static var features: Features { named(guestFeatures + hostFeatures) }

  /// The features by which a driver takes them all.
  static var takingFeatures: Features { named(guestFeatures) }

  private static func named(_ table: [(Feature, Offloads)]) -> Features {
    table.reduce(into: []) { features, row in features.insert(row.0) }
  }

  /// What a driver with these features takes undone.
  init(takenByDriverWith features: Features) {
    self = Self.named(Self.guestFeatures, by: features)
  }

  /// What a driver with these features may leave undone.
  init(leftByDriverWith features: Features) {
    self = Self.named(Self.hostFeatures, by: features)
  }

  private static func named(_ table: [(Feature, Offloads)], by features: Features) -> Offloads {
    let named = table.filter { features.contains($0.0) }.reduce(into: Offloads()) { $0.formUnion($1.1) }
    // Whatever else is left undone, the checksum is too (5.1.3.1).
    return named.contains(.checksum) ? named : []
  }
}
