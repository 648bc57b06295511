import VirtioCore

/// Which receive queue gets which packet (5.1.6.5.6, 5.1.6.5.7).
extension NetDevice {
  /// A packet's queue, and its hash for the driver.
  struct Placement {
    var queue: Int
    var hash: UInt32 = 0
    var report = HashReport.none
  }

  /// The key for steering that the driver has left to the device; any would do.
  private static let automaticHash = FlowHash(key: (0..<40).map { UInt8(truncatingIfNeeded: 0x6D &* ($0 + 1)) })

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
      let flow = headers.flatMap { Self.automaticHash.hash(lane.incoming.bytes, $0, types: .all) }
      placement.queue = 2 * Int((flow?.value ?? 0) % UInt32(settings.pairCount))
    }
    return placement
  }
}
