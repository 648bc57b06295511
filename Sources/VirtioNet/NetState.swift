public import DeviceState
public import VirtioCore

/// All that a network device keeps through a migration: its identity, and what its driver has told it.
public struct NetState: SavedState {
  public static let section = "net"
  public static let version = 2

  /// The card's address, which the driver may have set.
  public var address = EthernetAddress.broadcast
  /// Whether the operator wants the link up.
  public var isLinkWanted = true
  /// Whether the driver has yet to announce itself.
  public var asksToAnnounce = false
  /// The pairs of queues that the driver uses.
  public var pairCount: UInt16 = 1
  /// What the driver takes undone, as `Offloads`.
  public var takenOffloads: UInt32 = 0
  var filter = ReceiveFilter()
  var steering = ReceiveSteering()
  var coalescing = Coalescing()
  public var names = GuestNames()
  public var counters = NetCounters()

  public init() {}

  public mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("address", &address)
    try coder.field("isLinkWanted", &isLinkWanted)
    try coder.field("asksToAnnounce", &asksToAnnounce)
    try coder.field("pairCount", &pairCount)
    try coder.field("takenOffloads", &takenOffloads)
    try coder.field("filter", &filter)
    try coder.field("steering", &steering)
    try coder.field("coalescing", &coalescing)
    try coder.field("names", &names)
    try coder.field("counters", &counters)
  }
}

/// Saving and going on elsewhere.
extension NetDevice {
  public var state: NetState {
    var state = NetState()
    state.address = fields.address
    state.isLinkWanted = isLinkWanted
    state.asksToAnnounce = fields.asksToAnnounce
    state.pairCount = UInt16(settings.pairCount)
    state.takenOffloads = settings.takenOffloads.rawValue
    state.filter = filter
    state.steering = steering
    state.coalescing = coalescing
    state.names = names
    state.counters = counters
    return state
  }

  /// The card's address is none of them: it comes with the state.
  public func constants() -> [DeviceConstant] {
    [
      // The control queue comes behind the last pair (5.1.2).
      DeviceConstant("pairs of queues", UInt64(lanes.count), by: [.netMultiqueue, .netRSS]),
      DeviceConstant("largest packet", UInt64(fields.mtu), by: [.netMTU]),
    ]
  }

  public mutating func adopt(_ state: NetState) throws(StateError) {
    try check(state)
    fields.address = state.address
    isLinkWanted = state.isLinkWanted
    settings.pairCount = Int(state.pairCount)
    filter = state.filter
    setSteering(state.steering)
    coalescing = state.coalescing
    names = state.names
    counters = state.counters
    setTakenOffloads(Offloads(rawValue: state.takenOffloads))
    updateLink()
    fields.asksToAnnounce = state.asksToAnnounce
    hasArrived = options.announcesMoves && !features.isEmpty
    owesAnnouncement = hasArrived
  }

  private func check(_ state: NetState) throws(StateError) {
    func refuse(_ field: String, _ reason: String) -> StateError {
      .invalidValue(section: NetState.section, field: field, reason: reason)
    }
    guard state.address.isUnicast || features.isEmpty else {
      throw refuse("address", "is \(state.address), which no card can have")
    }
    let hasManyPairs = features.contains(.netMultiqueue) || features.contains(.netRSS)
    let mostPairs = hasManyPairs ? lanes.count : 1
    guard (1...mostPairs).contains(Int(state.pairCount)) else {
      throw refuse("pairCount", "is \(state.pairCount), and the driver of the card here has \(mostPairs)")
    }
    let known = Offloads(takenByDriverWith: features)
    guard Offloads(rawValue: state.takenOffloads).isSubset(of: known) else {
      throw refuse("takenOffloads", "has more than the driver has agreed to")
    }
    try state.filter.check(choosesVLANs: features.contains(.netControlVLAN))
    guard state.steering.isPossible(pairCount: mostPairs),
      features.contains(.netRSS) || !state.steering.isChosenByDriver
    else {
      throw refuse("steering", "is nothing that a driver with \(mostPairs) pairs of queues can ask for")
    }
    guard state.coalescing.isPossible(pairCount: lanes.count),
      features.contains(.netQueueNotificationCoalescing) || state.coalescing.queues.isEmpty
    else {
      throw refuse("coalescing", "is of queues that the driver has not, or twice of one")
    }
    guard state.names.arePossible else { throw refuse("names", "are more than a card remembers, or of a wrong length") }
  }
}
