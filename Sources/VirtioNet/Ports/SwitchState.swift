import LinuxIO

/// What a switch has found for each packet of a batch.
typealias Verdicts = InlineArray<64, Verdict>

/// What a switch has found for a packet.
struct Verdict: Sendable {
  /// Where a packet goes.
  enum Way: Equatable, Sendable {
    case nowhere
    /// To every port that carries its VLAN, but the one it came from.
    case everywhere
    /// To the port in this place.
    case port(Int)
  }

  var way = Way.nowhere
  var vlan: UInt16 = 0
  var tag: UInt16?
}

/// Where packets leave a switch.
struct SwitchOutlet: Sendable {
  let queue: SwitchQueue
  let vlans: PortVLANs
}

/// What the ports of a switch share.
struct SwitchState: Sendable {
  struct Port: Sendable {
    let name: String
    let vlans: PortVLANs
    var floodBrake: TokenBucket?
    /// Of what came from the card.
    var counters = PortCounters()
  }

  var addresses: AddressTable
  /// By place; a place is free while it is nil.
  var ports: [Port?] = []
  /// The other side of `ports`, which changes with none of their packets.
  var outlets: [SwitchOutlet?] = []

  init(_ options: SwitchOptions) {
    addresses = AddressTable(capacity: options.addressCount, ageing: options.ageing.wholeNanoseconds)
  }

  /// - Returns: the port's place.
  mutating func add(_ port: Port, _ outlet: SwitchOutlet) -> Int {
    let place = ports.firstIndex { $0 == nil } ?? ports.count
    if place == ports.count {
      ports.append(port)
      outlets.append(outlet)
    } else {
      ports[place] = port
      outlets[place] = outlet
    }
    return place
  }

  /// Frees a place.
  /// - Returns: what was counted there.
  mutating func remove(_ place: Int) -> PortCounters {
    addresses.forget(port: place)
    outlets[place] = nil
    defer { ports[place] = nil }
    return ports[place]?.counters ?? PortCounters()
  }

  /// Learns from the packets that came from a port, and finds where they go.
  mutating func judge(_ batch: borrowing PacketBatch, from place: Int, now: UInt64, _ verdicts: inout Verdicts) {
    guard let vlans = ports[place]?.vlans else { return }
    addresses.forgetOld(now: now)
    for index in 0..<batch.count {
      let verdict = judge(batch.bytes, batch.frame(index), from: place, vlans, now: now)
      if verdict.way != .nowhere { ports[place]?.counters.sent &+= 1 }
      verdicts[index] = verdict
    }
  }

  private mutating func judge(
    _ bytes: [UInt8], _ frame: Range<Int>, from place: Int, _ vlans: PortVLANs, now: UInt64
  ) -> Verdict {
    guard let head = EthernetHead(bytes, frame) else { return drop(.tooShort, place) }
    guard let vlan = vlans.vlan(ofTag: head.tag), !head.isForBridge else { return drop(.filtered, place) }
    if !EthernetHead.isGroup(head.source), head.source != 0 {
      addresses.learn(AddressTable.key(head.source, vlan), place, now: now)
    }
    if !EthernetHead.isGroup(head.destination),
      let target = addresses.port(of: AddressTable.key(head.destination, vlan))
    {
      return target == place ? drop(.filtered, place) : Verdict(way: .port(target), vlan: vlan, tag: head.tag)
    }
    let hasReceiver = outlets.indices.contains { $0 != place && outlets[$0]?.vlans.carries(vlan) == true }
    guard hasReceiver else { return drop(.noReceiver, place) }
    guard ports[place]?.floodBrake?.takeIfReady(1, now: now) != false else { return drop(.rate, place) }
    return Verdict(way: .everywhere, vlan: vlan, tag: head.tag)
  }

  private mutating func drop(_ reason: DropReason, _ place: Int) -> Verdict {
    ports[place]?.counters.drop(reason)
    return Verdict()
  }
}

extension TokenBucket {
  /// Takes tokens if they are there.
  mutating func takeIfReady(_ count: UInt64, now: UInt64) -> Bool {
    guard delay(of: count, now: now) == 0 else { return false }
    _ = take(count, now: now)
    return true
  }
}
