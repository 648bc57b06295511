import LinuxIO

/// The features of the protocol itself, `VHOST_USER_PROTOCOL_F_*`.
public struct ProtocolFeatures: OptionSet, Hashable, Sendable {
  public let rawValue: UInt64

  public init(rawValue: UInt64) {
    self.rawValue = rawValue
  }

  /// `MQ`: the front-end may ask for the number of queues.
  public static let multiqueue = ProtocolFeatures(rawValue: 1 << 0)
  /// `LOG_SHMFD`: the front-end shares a log of the pages that the back-end has written.
  public static let sharedLog = ProtocolFeatures(rawValue: 1 << 1)
  /// `RARP`: the back-end announces a guest that has come from elsewhere.
  public static let announcements = ProtocolFeatures(rawValue: 1 << 2)
  /// `REPLY_ACK`: any message can be acknowledged.
  public static let replyAck = ProtocolFeatures(rawValue: 1 << 3)
  /// `MTU`: the back-end is told of the guest's MTU.
  public static let mtu = ProtocolFeatures(rawValue: 1 << 4)
  /// `BACKEND_REQ`: the back-end may send messages of its own.
  public static let backendRequests = ProtocolFeatures(rawValue: 1 << 5)
  /// `PAGEFAULT`: the guest's memory may follow while the device uses it already (postcopy).
  public static let pageFaults = ProtocolFeatures(rawValue: 1 << 8)
  /// `CONFIG`: the configuration space is the back-end's.
  public static let config = ProtocolFeatures(rawValue: 1 << 9)
  /// `INFLIGHT_SHMFD`: requests in flight are noted in memory that outlives the back-end.
  public static let inflightRegion = ProtocolFeatures(rawValue: 1 << 12)
  /// `RESET_DEVICE`: the device can be reset without a new connection.
  public static let resetDevice = ProtocolFeatures(rawValue: 1 << 13)
  /// `INBAND_NOTIFICATIONS`: kicks and calls may travel as messages.
  public static let inbandNotifications = ProtocolFeatures(rawValue: 1 << 14)
  /// `CONFIGURE_MEM_SLOTS`: memory regions come and go one by one.
  public static let memorySlots = ProtocolFeatures(rawValue: 1 << 15)
  /// `STATUS`: the back-end is told of the device status.
  public static let status = ProtocolFeatures(rawValue: 1 << 16)
  /// `DEVICE_STATE`: the front-end carries the device's own state from one back-end to another.
  public static let deviceState = ProtocolFeatures(rawValue: 1 << 19)

  /// All that this back-end can do, on this machine.
  public static let supported: ProtocolFeatures = standard.union(.inbandNotifications)

  /// What is offered unless said otherwise: everything but in-band notifications, which a front-end that has the choice
  /// would use in place of the much cheaper descriptors. What is for network devices is offered for those alone.
  public static let standard: ProtocolFeatures = everywhere.union(Userfaultfd.isAvailable ? .pageFaults : [])

  /// What only a network device can do.
  static let network: ProtocolFeatures = [.announcements, .mtu]

  private static let everywhere: ProtocolFeatures = [
    .multiqueue, .sharedLog, .replyAck, .backendRequests, .config, .inflightRegion, .resetDevice, .memorySlots,
    .status, .deviceState, .announcements, .mtu,
  ]
}
