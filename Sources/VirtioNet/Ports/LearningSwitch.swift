public import LinuxIO

/// What a `LearningSwitch` bounds, for all of its ports alike.
public struct SwitchOptions: Equatable, Sendable {
  /// For how long an address is known after a frame came from it, to a 256th.
  public var ageing = Duration.seconds(300)
  /// How many addresses are known at most. When there are more, the port with the most loses the one it has not used for
  /// the longest time.
  public var addressCount = 4096
  /// How many packets wait for a card at most.
  public var queuePacketCount = 1024
  /// How many bytes they take at most; at least one of the largest fits.
  public var queueByteCount = 1 << 20
  /// How many packets that go to all ports a card may send; as many as it likes when nil.
  public var floodRate: TokenBucket.Rate? = TokenBucket.Rate(perSecond: 10_000)

  public init() {}
}

/// An address that a switch knows.
public struct SwitchEntry: Equatable, Sendable {
  public let address: EthernetAddress
  /// 0 for frames without a tag between trunk ports.
  public let vlan: UInt16
  /// The port's name.
  public let port: String
  /// How long ago a frame came from it, to a 256th of the ageing.
  public let age: Duration
}

/// Joins cards of one process: each frame goes where its receiver was last heard.
///
/// Every card has a `SwitchPort`, which it uses on its own thread. A frame whose receiver is not known, and one for a
/// group, goes to all ports that carry its VLAN. Whoever is too slow loses what is sent to it; nobody waits for it.
/// What a driver has left undone in a packet stays undone, for the receiving card.
public final class LearningSwitch: Sendable {
  public let options: SwitchOptions
  private let state: Monitor<SwitchState>
  private let clock: @Sendable () -> UInt64

  public convenience init(_ options: SwitchOptions = SwitchOptions()) {
    self.init(options, clock: { MonotonicClock.now })
  }

  /// - Parameter clock: what addresses age by and tokens flow by, in nanoseconds.
  init(_ options: SwitchOptions, clock: @escaping @Sendable () -> UInt64) {
    self.options = options
    self.clock = clock
    state = Monitor(SwitchState(options))
  }

  /// Makes a port for a card; it is there for as long as the port lives, or until it is removed.
  /// - Parameter name: what it is called, for people and to be removed by.
  /// - Throws: `illegalVLAN` for one that is none of 1 to 4094, and `system`.
  public func addPort(_ name: String, _ vlans: PortVLANs = .trunk) throws(PortError) -> SwitchPort {
    if case .access(let vlan) = vlans, !(1...4094).contains(vlan) { throw .illegalVLAN(vlan) }
    let queue: SwitchQueue
    do throws(LinuxError) {
      queue = try SwitchQueue(packetCount: options.queuePacketCount, byteCount: options.queueByteCount)
    } catch {
      throw .system("switch:\(name)", error)
    }
    let port = SwitchState.Port(name: name, vlans: vlans, floodBrake: options.floodRate.map { TokenBucket($0) })
    let place = state.withLock { $0.add(port, SwitchOutlet(queue: queue, vlans: vlans)) }
    return SwitchPort(self, place, queue, name: name, vlans)
  }

  /// Pulls the cables of all ports of a name: their `failure` says so, and their cards are woken to see it.
  /// - Returns: whether there was one.
  @discardableResult
  public func removePorts(named name: String) -> Bool {
    let queues = state.withLock { state in
      state.ports.indices.compactMap { state.ports[$0]?.name == name ? state.outlets[$0]?.queue : nil }
    }
    for queue in queues { remove(queue) }
    return !queues.isEmpty
  }

  /// The addresses that it knows.
  public var table: [SwitchEntry] {
    let now = clock()
    return state.withLock { state in
      state.addresses.forgetOld(now: now)
      return state.addresses.all.compactMap { (key, place, seen) in
        guard let address = EthernetAddress(rawValue: key & 0xFFFF_FFFF_FFFF) else { return nil }
        return SwitchEntry(
          address: address, vlan: UInt16(key >> 48), port: state.ports[place]?.name ?? "",
          age: .nanoseconds(Int64(clamping: now > seen ? now - seen : 0)))
      }
    }
  }

  /// What each port has counted, from the view of its card.
  public var counters: [(port: String, counters: PortCounters)] {
    let ports = state.withLock { state in
      state.ports.indices.compactMap { place in
        state.ports[place].flatMap { port in state.outlets[place].map { (port, $0.queue) } }
      }
    }
    return ports.map { (port, queue) in
      var counters = queue.counters
      counters.add(port.counters)
      return (port.name, counters)
    }
  }

  /// Ends a port, if it has not ended.
  func remove(_ queue: SwitchQueue) {
    let counters = state.withLock { state in
      state.outlets.firstIndex { $0?.queue === queue }.map { state.remove($0) }
    }
    if let counters { queue.close(counters) }
  }

  /// What a port has counted.
  func counters(of queue: SwitchQueue, at place: Int) -> PortCounters {
    let taken = state.withLock { state in
      state.outlets[place]?.queue === queue ? state.ports[place]?.counters : nil
    }
    var counters = queue.counters
    if let taken { counters.add(taken) }
    return counters
  }

  /// Passes on what came from a port. No lock is held while another is taken.
  func pass(_ batch: borrowing PacketBatch, from place: Int, _ queue: SwitchQueue, _ vlans: PortVLANs) {
    var verdicts = Verdicts(repeating: Verdict())
    let now = clock()
    let outlets = state.withLock { state in
      guard state.outlets[place]?.queue === queue else { return [] as [SwitchOutlet?] }
      state.judge(batch, from: place, now: now, &verdicts)
      return state.outlets
    }
    guard !outlets.isEmpty else { return queue.drop(.portFailed, batch.count) }
    var first = 0
    while first < batch.count {
      let way = verdicts[first].way
      var end = first + 1
      while end < batch.count, verdicts[end].way == way { end += 1 }
      switch way {
      case .nowhere: break
      case .port(let target): Self.deliver(first..<end, of: batch, verdicts, from: vlans, to: outlets[target])
      case .everywhere:
        for target in outlets.indices where target != place {
          Self.deliver(first..<end, of: batch, verdicts, from: vlans, to: outlets[target])
        }
      }
      first = end
    }
  }

  private static func deliver(
    _ range: Range<Int>, of batch: borrowing PacketBatch, _ verdicts: Verdicts, from source: PortVLANs,
    to outlet: SwitchOutlet?
  ) {
    guard let outlet else { return }
    outlet.queue.append(range, of: batch, verdicts, from: source, to: outlet.vlans)
  }
}
