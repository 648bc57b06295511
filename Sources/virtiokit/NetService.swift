import LinuxIO
import Options
import VhostUser
import VirtioCore
import VirtioNet

/// Network cards, the front-ends that use them, and the operator's commands, on one event loop.
final class NetService {
  /// One card, and who uses it.
  private final class Card {
    let device: ServedDevice<NetDevice>
    var frontends: Frontends<NetDevice>?

    init(_ device: consuming NetDevice) {
      self.device = ServedDevice(device)
    }
  }

  private let loop: EventLoop
  private let network: Network
  private var cards: [Card] = []
  private var console: Console?
  private var control: ControlServer?
  private var isEnding = false

  /// - Parameter standardInput: where commands are typed, if anywhere.
  init(_ command: NetCommand, loop: EventLoop, standardInput: consuming FileDescriptor?) throws {
    self.loop = loop
    network = try Network(command, loop: loop)
    if let path = command.control {
      control = try ControlServer(path: path, loop: loop) { [unowned self] in execute($0) }
    }
    for number in 0..<command.cardCount { try addCard(number, command) }
    Terminal.complain("serving \(command.cardCount) \(command.cardCount == 1 ? "card" : "cards") on \(network.name)")
    if let standardInput { console = try Console(standardInput, loop: loop) { [unowned self] in execute($0) } }
  }

  private func addCard(_ number: Int, _ command: NetCommand) throws {
    let ports = try network.ports(number, command)
    let card = Card(
      NetDevice(command.deviceOptions(number), ports: ports) { Terminal.complain("card \(number): \($0)") })
    let device = card.device
    device.networkMessages = NetworkMessages { card, address in
      card.announce(EthernetAddress(address))
    } setMTU: { card, mtu in
      card.setMTU(mtu)
    }
    device.poll(on: loop, atMost: command.pollLimit)
    for port in ports {
      guard let descriptor = port.descriptor else { continue }
      try loop.watch(descriptor, for: [.readable, .writable, .onChange]) { device.wake() }
    }
    let entrance = Frontends<NetDevice>.Entrance(
      socketPath: command.socketPaths.isEmpty ? nil : command.socketPaths[number], descriptor: command.descriptor)
    if let entrance {
      card.frontends = try Frontends(
        of: device, named: "card \(number)", from: entrance, loop: loop, offering: .standard
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
    frontends.end { [unowned self] in endNext() }
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
    case .link(let number, let isUp): try card(number).device.update { $0.setLink(isUp: isUp) }
    case .announce(let number): try card(number).device.update { $0.announce() }
    case .rate(let packets, let bytes): network.setRates(PacketRates(eachWay: packets, bytes: bytes.bytes))
    case .fault(let faults): network.setFaults(faults)
    case .table: return .success(network.tableText)
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
      card.device.update { NetInformation(isConnected: card.device.memory != nil, $0) }
    }
    return asJSON ? "\(JSON.array(all.map(\.json)))\n" : NetInformation.table(all) + network.uplinkText
  }
}
