import VirtioCore

/// What a network device offers its driver.
public struct NetOptions: Equatable, Sendable {
  /// The card's address until the driver gives it another.
  public var address: EthernetAddress
  /// How many pairs of queues, 1 to 128.
  public var pairCount = 1
  /// The largest size of each queue: a power of two, 4 to 32768. A front-end may choose any smaller one.
  public var queueSize: UInt16 = 1024
  /// The largest IP packet that the driver may use, 68 to 65535; nil when nothing is said of it.
  public var mtu: UInt16?
  /// Mbit/s, at most 0x7FFFFFFF; nil when unknown.
  public var speed: UInt32?
  /// Let frames be left undone in both directions.
  public var offloads = true
  /// Let one received packet take several buffers.
  public var mergeableBuffers = true
  /// Take commands.
  public var controlQueue = true
  /// A card that goes on from a saved state is in another place of the network than the one that was saved: tell the network,
  /// ask the guest to tell it, and drop what the port has had for others until then.
  public var announcesMoves = true
  /// Let the driver say which queue gets which flow, and tell it the hash.
  public var hashing = true

  public init(address: EthernetAddress) {
    self.address = address
  }

  var features: Features {
    var features: Features = [.netMAC, .netStatus]
    if offloads { features = features.union(Offloads.features) }
    if mergeableBuffers { features.insert(.netMergeableBuffers) }
    if mtu != nil { features.insert(.netMTU) }
    if speed != nil { features.insert(.netSpeedDuplex) }
    if controlQueue { features = features.union(controlFeatures) }
    return features
  }

  private var controlFeatures: Features {
    var features: Features = [
      .netControlQueue, .netControlReceive, .netControlReceiveExtra, .netControlVLAN, .netGuestAnnounce,
      .netControlMACAddress, .netNotificationCoalescing, .netQueueNotificationCoalescing,
    ]
    if offloads { features.insert(.netControlGuestOffloads) }
    if pairCount > 1 { features.insert(.netMultiqueue) }
    if hashing { features = features.union([.netRSS, .netHashReport]) }
    return features
  }
}
