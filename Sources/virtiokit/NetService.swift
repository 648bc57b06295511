import LinuxIO
import Options
import VhostUser
import VirtioCore
import VirtioNet

/// Network cards, the front-ends that use them, and the operator's commands, on one event loop.
final class NetService<Device: VirtioDevice & ~Copyable> {
  /// One card, and who uses it.
  private final class Card {
    let device: ServedDevice<Device>
    var frontends: Frontends<Device>?

    init(_ device: consuming Device) {
      self.device = ServedDevice(device)
    }
  }

  private let loop: EventLoop
  private let network: Network
  private let features: ProtocolFeatures
  private let desk: CardDesk<Device>
  private var cards: [Card] = []
  private var console: Console?
  private var control: ControlServer?
  private var isEnding = false

  /// - Parameters:
  ///   - features: what of the protocol to offer.
  ///   - desk: what can be done with a card.
  ///   - standardInput: where commands are typed, if anywhere.
  ///   - make: makes a card, by its number, on its ports.
  init(
    _ command: NetCommand, loop: EventLoop, offering features: ProtocolFeatures, desk: CardDesk<Device>,
    standardInput: consuming FileDescriptor?, make: (Int, [any PacketPort]) -> Device
  ) throws {
    self.loop = loop
    self.features = features
    self.desk = desk
    network = try Network(command, loop: loop)
    if let path = command.control {
      control = try ControlServer(path: path, loop: loop) { [unowned self] in execute($0) }
    }
    for number in 0..<command.cardCount { try addCard(number, command, make) }
    Terminal.complain("serving \(command.cardCount) \(command.cardCount == 1 ? "card" : "cards") on \(network.name)")
    if let standardInput { console = try Console(standardInput, loop: loop) { [unowned self] in execute($0) } }
  }

  private func addCard(
    _ number: Int, _ command: NetCommand, _ make: (Int, [any PacketPort]) -> Device
  ) throws {
    let ports = try network.ports(number, command)
    let card = Card(make(number, ports))
    let device = card.device
    device.networkMessages = NetworkMessages { [desk] card, address in
      desk.announce(&card, EthernetAddress(address))
    } setMTU: { [desk] card, mtu in
      desk.setMTU(&card, mtu)
    }
    device.poll(on: loop, atMost: command.pollLimit)
    for port in ports {
      guard let descriptor = port.descriptor else { continue }
      try loop.watch(descriptor, for: [.readable, .writable, .onChange]) { device.wake() }
    }
    let entrance = Frontends<Device>.Entrance(
      socketPath: command.socketPaths.isEmpty ? nil : command.socketPaths[number], descriptor: command.descriptor)
    if let entrance {
      card.frontends = try Frontends(
        of: device, named: "card \(number)", from: entrance, loop: loop, offering: features
      ) { event in
        // What came while nobody was there has been waiting.
        if case .attached = event { device.wake() }
      }
    }
    cards.append(card)
  }

  /// Ends the program once every front-end has been let go of.
  func end() {
    guard !isEnding else { return }
    isEnding = true
    endNext()
  }

  private func endNext() {
    guard let card = cards.popLast() else { return loop.stop() }
    guard let frontends = card.frontends else { return endNext() }
    frontends.end { [unowned self] in
      finish(card)
      endNext()
    }
  }

  /// All is over: what is recorded is complete.
  func finish() {
    for card in cards { finish(card) }
  }

  private func finish(_ card: Card) {
    card.device.update { desk.finish(&$0) }
  }

  func checkConnection() throws(VhostUserError) {
    for card in cards { try card.frontends?.checkConnection() }
  }

  private func execute(_ line: String) -> Reply {
    do {
      return try perform(NetOperatorCommand(line))
    } catch {
      return .failure("\(error)")
    }
  }

  private func perform(_ command: NetOperatorCommand) throws -> Reply {
    switch command {
    case .link(let number, let isUp): try card(number).device.update { desk.setLink(&$0, isUp) }
    case .announce(let number): try card(number).device.update { desk.announce(&$0, nil) }
    case .rate(let packets, let bytes): network.setRates(PacketRates(eachWay: packets, bytes: bytes.bytes))
    case .fault(let faults): network.setFaults(faults)
    case .table: return .success(network.tableText)
    case .saveState(let number, let path): return .success(try card(number).device.saveState(to: path))
    case .info(let asJSON): return .success(information(asJSON: asJSON))
    case .help: return .success(NetOperatorCommand.helpText)
    case .quit: end()
    }
    return .success("")
  }

  private func card(_ number: Int) throws(CommandError) -> Card {
    guard cards.indices.contains(number) else { throw .noCard(number, of: cards.count) }
    return cards[number]
  }

  private func information(asJSON: Bool) -> String {
    let all = cards.map { card in
      card.device.update { desk.information($0, card.device.memory != nil) }
    }
    let uplink = network.uplinkInformation
    guard asJSON else { return NetInformation.table(all) + (uplink?.text ?? "") }
    let object: JSON = .object([("cards", .array(all.map(\.json))), ("uplink", uplink?.json ?? .null)])
    return "\(object)\n"
  }
}
