import DeviceState
import GuestRAM
public import VirtioCore
public import Virtqueue

/// The network device (5.1): a card whose packets go through ports.
///
/// With one port all pairs of queues share it; with as many ports as pairs, each has its own. When a port's descriptor
/// gives the sign, `wake` of the host carries on.
public struct NetDevice: ~Copyable, VirtioDevice {
  public static var id: DeviceID { .network }
  public static var featureNames: [Int: String] { Feature.netNames }

  public let options: NetOptions
  /// One for all pairs of queues, or one for each.
  public let ports: [any PacketPort]
  /// What the device has counted since it was made, here or where its state came from.
  public internal(set) var counters = NetCounters()
  /// What the guest was seen to call itself, for those who must hear of it after a move.
  public internal(set) var names = GuestNames()

  let report: (PortError) -> Void
  var features: Features = []
  var fields: NetConfig
  /// What the driver has agreed to and asked for.
  var settings = DriverSettings()
  var filter = ReceiveFilter()
  var steering = ReceiveSteering()
  var coalescing = Coalescing()
  var flows = FlowMemory()
  let lanes: [Lane]
  /// The hash with the driver's key; nil while it has given none.
  var driversHash: FlowHash?
  /// What has been told of each port.
  var reported: [PortError?]
  /// The operator wants the link up.
  var isLinkWanted = true
  /// The network has yet to be told where the guest is.
  var owesAnnouncement = false
  /// Packets wait for the driver to make receive buffers available.
  var keepsPackets = false
  /// The driver has come from another place of the network, and its queues have not run here yet.
  var hasArrived = false

  /// - Parameters:
  ///   - ports: one, or `options.pairCount` of them; none leaves the card without a cable.
  ///   - report: told why a port carries nothing any more, once for each reason.
  public init(_ options: NetOptions, ports: [any PacketPort], report: @escaping (PortError) -> Void = { _ in }) {
    precondition(ports.count <= 1 || ports.count == options.pairCount, "one port, or one for each pair of queues")
    self.options = options
    self.ports = ports
    self.report = report
    offeredFeatures = options.features
    fields = NetConfig(options)
    reported = [PortError?](repeating: nil, count: ports.count)
    lanes = (0..<max(1, options.pairCount)).map { Lane(pair: $0, portNumber: $0 % max(1, ports.count), ports) }
    reset()
  }

  /// What the driver was told has gone still goes, as far as there is room for it: a card may end in the middle of traffic,
  /// when another has taken over its state.
  deinit {
    var counters = counters
    for lane in lanes { lane.letGoOutgoing(&counters, isLinkUp: fields.isLinkUp) }
  }

  public let offeredFeatures: Features

  /// Pairs of receive and transmit queues, and a control queue behind the last pair that is in use.
  public var queueSizes: [UInt16] {
    [UInt16](repeating: options.queueSize, count: 2 * lanes.count + (options.controlQueue ? 1 : 0))
  }

  /// All 24 bytes, whatever is negotiated.
  public var config: [UInt8] { fields.bytes }

  public mutating func start(with features: Features) {
    self.features = features
    settings = DriverSettings(features, pairCount: lanes.count)
    settings.limitFrames(mtu: fields.mtu, features)
    if features.contains(.netControlVLAN) { filter.beginVLANs() }
    for lane in lanes { lane.port?.setGivenOffloads(settings.takenOffloads) }
  }

  public mutating func setRunning(_ isRunning: Bool) {
    guard !isRunning else {
      dropEarlier()
      return announceIfOwed()
    }
    // What was fetched for the driver waits for its queues to run again.
    for lane in lanes { lane.letGoOutgoing(&counters, isLinkUp: fields.isLinkUp) }
  }

  public mutating func serve(_ index: Int, of queues: inout QueueSet) throws(VirtqueueError) {
    if index == settings.controlQueue {
      try obey(&queues, index)
    } else if index < 2 * lanes.count, index % 2 == 1 {
      try transmit(lanes[index / 2], &queues)
    } else if index < 2 * lanes.count {
      try receive(&queues)
    }
  }

  /// A port has packets or room.
  public mutating func wake(_ queues: inout QueueSet) throws(VirtqueueError) {
    announceIfOwed()
    for lane in lanes {
      lane.isDry = false
      if lane.isStalled, queues.isRunning(lane.transmitQueue) { try transmit(lane, &queues) }
      // What the port has kept goes on with the next call, which `receive` leaves out while packets wait for buffers.
      if lane.isSent, !lane.incoming.isEmpty { lane.port?.send(&lane.outgoing) }
    }
    try receive(&queues)
  }

  /// What is sent on a transmit queue goes nowhere while it is disabled, and the driver gets its buffers back.
  public func discardsWhileDisabled(_ index: Int) -> Bool { index < 2 * lanes.count && index % 2 == 1 }

  /// A receive queue is looked at with each packet for it; a driver that fills it up need tell nobody before one has found it
  /// empty.
  public func awaitsBuffers(of index: Int) -> Bool {
    keepsPackets || index >= 2 * lanes.count || index % 2 == 1 || index == settings.controlQueue
  }

  /// Looks whether a port has packets that nobody has told of.
  public mutating func poll(_ queues: inout QueueSet) throws(VirtqueueError) -> Bool {
    let before = counters.receivedPackets
    for lane in lanes { lane.isDry = false }
    try receive(&queues)
    return counters.receivedPackets != before
  }

  public mutating func reset() {
    features = []
    settings = DriverSettings()
    filter = ReceiveFilter()
    steering = ReceiveSteering()
    driversHash = nil
    coalescing = Coalescing()
    flows.forget()
    fields.address = options.address
    fields.asksToAnnounce = false
    owesAnnouncement = false
    keepsPackets = false
    hasArrived = false
    updateLink()
    for lane in lanes {
      lane.letGoOutgoing(&counters, isLinkUp: fields.isLinkUp)
      counters.drop(fields.isLinkUp ? .noReceiver : .linkDown, lane.dropIncoming())
    }
  }
}

/// What a driver has agreed to, in the form in which packets need it.
struct DriverSettings {
  /// The bytes in front of a frame in the driver's buffers.
  var headerByteCount = NetHeader.byteCount
  var isMergeable = false
  var reportsHash = false
  /// What the driver may leave undone.
  var leftOffloads: Offloads = []
  /// What the driver takes undone, now.
  var takenOffloads: Offloads = []
  /// The control queue's index; nil without one (5.1.2).
  var controlQueue: Int?
  /// How many pairs of queues the driver uses.
  var pairCount = 1
  /// A front-end that has the control queue to itself, as those of vhost-user have, shows which pairs are in use by which
  /// of their queues it lets run.
  var showsPairsByQueues = false
  /// The longest frame, but for those to be cut, that the driver takes.
  var largestFrameByteCount = Int.max

  init() {}

  init(_ features: Features, pairCount: Int) {
    isMergeable = features.contains(.netMergeableBuffers)
    reportsHash = features.contains(.netHashReport)
    leftOffloads = Offloads(leftByDriverWith: features)
    takenOffloads = Offloads(takenByDriverWith: features)
    headerByteCount = features.contains(.version1) || isMergeable ? 12 : 10
    if reportsHash { headerByteCount = 20 }
    let hasManyPairs = features.contains(.netMultiqueue) || features.contains(.netRSS)
    if features.contains(.netControlQueue) { controlQueue = hasManyPairs ? 2 * pairCount : 2 }
    showsPairsByQueues = hasManyPairs && controlQueue == nil
  }

  /// Whoever has agreed to an MTU gets nothing beyond (5.1.4.1); 0 is none.
  mutating func limitFrames(mtu: UInt16, _ features: Features) {
    // An Ethernet header with a VLAN tag comes on top.
    largestFrameByteCount = mtu > 0 && features.contains(.netMTU) ? Int(mtu) + 18 : .max
  }
}

/// One pair of queues, its port, and the packets between them.
final class Lane {
  let pair: Int
  let portNumber: Int
  let port: (any PacketPort)?
  /// Packets that the driver has sent, and the port has yet to take.
  var outgoing = PacketBatch()
  /// Packets that the port has given, and the driver has yet to get.
  var incoming = PacketBatch()
  var outgoingFallback = OffloadFallback(.toPort)
  var incomingFallback = OffloadFallback(.toDriver)
  /// The port had nothing more.
  var isDry = false
  /// The port has left packets in `outgoing`.
  var isStalled = false

  init(pair: Int, portNumber: Int, _ ports: [any PacketPort]) {
    self.pair = pair
    self.portNumber = portNumber
    port = ports.isEmpty ? nil : ports[portNumber]
  }

  var receiveQueue: Int { 2 * pair }
  var transmitQueue: Int { 2 * pair + 1 }

  /// Whether all that the driver has sent was taken by the port.
  var isSent: Bool { outgoing.isEmpty && !outgoingFallback.hasMore }

  /// Whether the driver has all that the port has given.
  var isDelivered: Bool { incoming.isEmpty && !incomingFallback.hasMore }

  /// - Returns: how many packets it were; what is not wholly cut counts as one.
  func dropOutgoing() -> Int {
    let count = outgoing.count + outgoingFallback.waitingCount
    outgoing.removeAll()
    outgoingFallback.removeAll()
    return count
  }

  /// - Returns: how many packets it were; what is not wholly cut counts as one.
  func dropIncoming() -> Int {
    let count = incoming.count + incomingFallback.waitingCount
    incoming.removeAll()
    incomingFallback.removeAll()
    return count
  }

  /// Ends a driver's turn: what its port had no room for goes out if it can, and the rest goes nowhere.
  func letGoOutgoing(_ counters: inout NetCounters, isLinkUp: Bool) {
    // What did not get as far as the port is not checked yet.
    if isStalled, isLinkUp {
      port?.finishSending()
      port?.send(&outgoing)
    }
    port?.finishSending()
    counters.drop(isLinkUp ? .noReceiver : .linkDown, dropOutgoing())
    isDry = false
    isStalled = false
  }
}
