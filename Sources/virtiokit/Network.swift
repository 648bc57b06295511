import Glibc
import LinuxIO
import VirtioNet

/// What cards are plugged into, and what stands between.
///
/// The brake and the faults are there from the start, since an operator may want them later; neither costs a packet
/// anything while it does nothing.
final class Network {
  let name: String
  /// The switch, if there is one.
  let learningSwitch: LearningSwitch?
  private let capture: CaptureFile?
  private let rates: PacketRates
  private var brakes: [PortControl<PacketRates>] = []
  private var faults: [PortControl<PacketFaults>] = []
  /// What the switch is plugged into, and by what.
  private var uplink: (port: any PacketPort, joint: PortJoint)?

  init(_ command: NetCommand, loop: EventLoop) throws {
    name = command.port.optionText + (command.uplink.map { " with \($0.optionText)" } ?? "")
    learningSwitch = command.port == .learningSwitch ? LearningSwitch() : nil
    capture = try command.capture.map { path in
      try CaptureFile(path: path) { Terminal.complain("nothing is captured any more: \($0)") }
    }
    rates = command.packetRates
    if let learningSwitch, let address = command.uplink {
      let port = try Self.open(address, count: 1)[0]
      let joint = try PortJoint(port, learningSwitch.addPort(address.optionText)) {
        Terminal.complain("uplink: \($0)")
      }
      for descriptor in joint.descriptors {
        try loop.watch(descriptor, for: [.readable, .writable, .onChange]) { joint.carry() }
      }
      uplink = (port, joint)
    }
  }

  /// The ports of one card.
  func ports(_ card: Int, _ command: NetCommand) throws -> [any PacketPort] {
    guard let learningSwitch else {
      return try dressed(Self.open(command.port, count: command.pairCount, command.pairThreads))
    }
    let vlans = command.vlans.isEmpty ? PortVLANs.trunk : .access(UInt16(clamping: command.vlans[card]))
    return try dressed([learningSwitch.addPort("card \(card)", vlans)])
  }

  /// Lets so many packets and bytes a second through, each way.
  func setRates(_ rates: PacketRates) {
    for brake in brakes { brake.settings = rates }
  }

  /// Lets such things happen to packets, each way.
  func setFaults(_ new: PacketFaults) {
    for control in faults { control.settings = new }
  }

  /// What there is to say of the uplink; nil without one.
  var uplinkInformation: UplinkInformation? {
    guard let (port, joint) = uplink else { return nil }
    return UplinkInformation(
      name: port.name, drops: port.counters.drops.merging(joint.drops) { $0 &+ $1 }, failure: joint.failure)
  }

  /// What the switch has learned, a line for each address.
  var tableText: String {
    guard let learningSwitch else { return "there is no switch\n" }
    guard !learningSwitch.table.isEmpty else { return "the switch has heard of nobody yet\n" }
    return learningSwitch.table.map { entry in
      let vlan = entry.vlan == 0 ? "" : " VLAN \(entry.vlan)"
      return "\(entry.address)\(vlan) at \(entry.port), \(entry.age.components.seconds) s ago\n"
    }.joined()
  }

  /// Puts in front of a card's ports what an operator may want there.
  private func dressed(_ ports: [any PacketPort]) throws -> [any PacketPort] {
    let seen = ports.map { port in capture.map { CapturePort(port, to: $0) } ?? port }
    let braked = try RateLimitedPort.sharing(rates, among: seen)
    brakes += braked.prefix(1).map(\.control)
    return try braked.map { port in
      let faulty = try FaultyPort(port, seed: UInt64(faults.count))
      faults.append(faulty.control)
      return faulty
    }
  }

  private static func open(
    _ address: PortAddress, count: Int, _ threads: PairThreads = .never
  ) throws -> [any PacketPort] {
    switch address {
    case .tap(let name):
      threads.areWanted(pairCount: count)
        ? try TapPort.openOnThreads(name: name, queueCount: count) : try TapPort.open(name: name, queueCount: count)
    case .descriptor(let number): [try TapPort(descriptor: FileDescriptor(owning: number))]
    case .interface(let name): [try PacketSocketPort(interface: name)]
    case .stream(let address): [try StreamPort(connectingTo: SocketAddress.all(named: address))]
    case .listen(let address): [try StreamPort(listeningOn: SocketAddress.one(named: address))]
    case .datagram(let local, let remote):
      [try DatagramPort(local: SocketAddress.one(named: local), remote: SocketAddress.one(named: remote))]
    case .loopback: [try LoopbackPort()]
    case .sink: [SinkPort()]
    case .source: [try SourcePort()]
    case .learningSwitch: []
    }
  }
}

extension PacketRates {
  /// So many packets and bytes a second; 0 is without limit.
  init(eachWay packets: UInt64, bytes: UInt64) {
    let share = Share(
      packets: packets > 0 ? TokenBucket.Rate(perSecond: packets) : nil,
      bytes: bytes > 0 ? TokenBucket.Rate(perSecond: bytes) : nil)
    self.init(outgoing: share, incoming: share)
  }
}

extension SocketAddress {
  /// A path, or `HOST:PORT`.
  fileprivate static func all(named text: String) throws -> [SocketAddress] {
    guard !text.contains("/"), let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...])
    else { return [try .unix(path: text)] }
    // An IPv6 address stands in brackets, which tell its colons from the port's.
    let name = text[..<colon]
    let host = String(name.hasPrefix("[") && name.hasSuffix("]") ? name.dropFirst().dropLast() : name)
    do throws(LinuxError) {
      return try SocketAddress.internet(host: host, port: port)
    } catch {
      throw error.number == EADDRNOTAVAIL ? CommandError.noHost(host) : error as any Error
    }
  }

  fileprivate static func one(named text: String) throws -> SocketAddress {
    // There is one at least, or an error.
    try all(named: text)[0]
  }
}
