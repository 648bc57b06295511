import VirtioCore

/// Which receive queue gets which packet (5.1.6.5.6, 5.1.6.5.7).
extension NetDevice {
  /// A packet's queue, and its hash for the driver.
  struct Placement {
    var queue: Int
    var hash: UInt32 = 0
    var report = HashReport.none
  }

  mutating func setSteering(_ new: ReceiveSteering) {
    steering = new
    driversHash = new.types == 0 ? nil : FlowHash(key: new.key)
  }

  /// Whether packets have to be looked at one by one.
  var hasToClassify: Bool {
    driversHash != nil || steering.isChosenByDriver || isSteeringAutomatic
  }

  /// Whether packets of one port go to several queues.
  var isSpread: Bool {
    settings.pairCount > 1 && (steering.isChosenByDriver || ports.count == 1)
  }

  /// Several queues share one port, which leaves it to the device which flow goes where.
  private var isSteeringAutomatic: Bool {
    settings.pairCount > 1 && ports.count == 1
  }

  /// Looks at what the driver has sent, for where its answers go.
  mutating func noteFlows(_ lane: Lane) {
    guard isSteeringAutomatic, !steering.isChosenByDriver else { return }
    for index in 0..<lane.outgoing.count {
      flows.note(lane.outgoing.bytes, lane.outgoing.frame(index), pair: lane.pair)
    }
  }

  /// The queue for all packets of a lane while none has to be looked at.
  func commonPlacement(_ lane: Lane) -> Placement {
    Placement(queue: 2 * (lane.pair % settings.pairCount))
  }

  /// The queue for a packet that a lane has fetched.
  func placement(_ lane: Lane, _ index: Int) -> Placement {
    var placement = commonPlacement(lane)
    let headers = FrameHeaders(lane.incoming.bytes, lane.incoming.frame(index))
    var hash: UInt32?
    if let headers, let driversHash,
      let found = driversHash.hash(lane.incoming.bytes, headers, types: HashTypes(rawValue: steering.types))
    {
      (placement.hash, placement.report) = found
      hash = found.value
    }
    if steering.isChosenByDriver {
      placement.queue = 2 * steering.pair(for: hash)
    } else if isSteeringAutomatic {
      placement.queue = 2 * flows.pair(lane.incoming.bytes, headers, of: settings.pairCount)
    }
    return placement
  }
}
