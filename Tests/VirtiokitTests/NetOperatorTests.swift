import Options
import Testing

@testable import VirtioNet
@testable import virtiokit

@Suite("virtiokit: commands for network cards") struct NetOperatorCommandTests {
  @Test("a command is its words, however they are spaced")
  func words() throws {
    #expect(try NetOperatorCommand(" link\t1 down\r") == .link(card: 1, isUp: false))
    #expect(try NetOperatorCommand("announce 0") == .announce(card: 0))
    #expect(try NetOperatorCommand("rate 1000 1M") == .rate(packets: 1000, bytes: .mebibytes(1)))
    #expect(try NetOperatorCommand("info net --json") == .info(asJSON: true))
    #expect(try NetOperatorCommand("fault nothing") == .fault(PacketFaults()))
  }

  @Test("a fault is one kind, both ways, with a chance from 0 to 1")
  func faults() throws {
    var expected = PacketFaults()
    expected.outgoing.delay = 0.25
    expected.incoming.delay = 0.25
    #expect(try NetOperatorCommand("fault delay 0.25") == .fault(expected))
  }

  @Test(
    "a command with other arguments than it has is refused, with its lines of the help text",
    arguments: [
      "link", "link 0", "link 0 sideways", "link x up", "link -1 up", "announce", "rate 1", "rate x 1M", "fault loss",
      "fault loss 2", "fault loss nan", "fault rain 0.1", "info", "info disk",
    ])
  func wrongArguments(line: String) throws {
    let name = try #require(line.split(separator: " ").first)
    let error = #expect(throws: CommandError.self) { try NetOperatorCommand(line) }
    guard case .wrongArguments(let usage) = error else { throw try #require(error) }
    #expect(usage.hasPrefix("\(name) "))
    #expect(name != "fault" || usage.hasSuffix("fault loss 0.01"))
    #expect(!usage.contains("\n"))
  }

  @Test(
    "what is no command is refused, with the words that were not understood", arguments: ["", "dance", "Link 0 up"])
  func unknown(line: String) {
    #expect(throws: CommandError.unknown(line)) { try NetOperatorCommand(line) }
  }

  @Test("every example that the help shows is understood")
  func help() throws {
    let examples = NetOperatorCommand.helpText.split(separator: "\n").compactMap { line in
      line.split(separator: ": ").dropFirst().last?.split(separator: ";").first
    }
    #expect(examples.count == 4)
    for example in examples { _ = try NetOperatorCommand(String(example)) }
  }
}

@Suite("virtiokit: what is told of network cards") struct NetInformationTests {
  private func card() throws -> NetDevice {
    let address = try #require(EthernetAddress("52:54:00:12:34:56"))
    var card = NetDevice(NetOptions(address: address), ports: [SinkPort()])
    card.counters.receivedPackets = 1_234_567
    card.counters.drop(.noBuffers, 3)
    card.counters.drop(.tooShort, 1)
    return card
  }

  @Test("the table has columns that line up, nothing behind the last, and a line for each reason of loss")
  func table() throws {
    let card = try card()
    let other = NetInformation(isConnected: false, try self.card())
    let text = NetInformation.table([NetInformation(isConnected: true, card), other])
    let expected = """
      card  guest      MAC                address  link  received  sent  lost
      0     connected  52:54:00:12:34:56  -        up    1234567   0     4
      1     none       52:54:00:12:34:56  -        up    1234567   0     4
      card 0: 1 lost: too short
      card 0: 3 lost: no buffers
      card 1: 1 lost: too short
      card 1: 3 lost: no buffers

      """
    #expect(text == expected)
  }

  @Test("what the port has dropped is lost too, and told apart")
  func portDrops() throws {
    let network = LearningSwitch()
    let port = try network.addPort("a")
    network.removePorts(named: "a")
    var batch = PacketBatch()
    batch.append(SourcePort.smallFrame[...])
    port.send(&batch)
    let card = NetDevice(NetOptions(address: try #require(EthernetAddress("52:54:00:12:34:56"))), ports: [port])
    let information = NetInformation(isConnected: true, card)
    let text = NetInformation.table([information])
    #expect(text.contains("  1\ncard 0: 1 lost in the port: port failed\n"))
    #expect("\(information.json)".contains(#""drops": {}, "port_drops": {"port failed": 1}"#))
  }

  @Test("every port that has failed is told, and ports that fail alike are told once")
  func failures() throws {
    let network = LearningSwitch()
    let ports = try ["a", "b", "b", "c"].map { try network.addPort($0) }
    for name in ["a", "b"] { network.removePorts(named: name) }
    var options = NetOptions(address: try #require(EthernetAddress("52:54:00:12:34:56")))
    options.pairCount = ports.count
    let information = NetInformation(isConnected: true, NetDevice(options, ports: ports))
    #expect(information.failures == ["a", "b"].map { "\(PortError.disconnected("switch:\($0)"))" })
  }

  @Test("the uplink is told for programs as for people")
  func uplink() {
    let uplink = UplinkInformation(name: "tap:vm0", drops: [.noReceiver: 2], failure: .disconnected("tap:vm0"))
    let failure = "\(PortError.disconnected("tap:vm0"))"
    #expect(uplink.text == "uplink: 2 lost: no receiver\nuplink: \(failure)\n")
    #expect("\(uplink.json)" == #"{"port": "tap:vm0", "drops": {"no receiver": 2}, "failure": "\#(failure)"}"#)
  }

  @Test("JSON has the same, with losses by reason and no failure of a port that works")
  func json() throws {
    let card = try card()
    let expected = """
      {"connected": true, "mac": "52:54:00:12:34:56", "addresses": [], "link_up": true, "received_packets": 1234567, \
      "received_bytes": 0, "sent_packets": 0, "sent_bytes": 0, "commands": 0, "refused_commands": 0, \
      "drops": {"too short": 1, "no buffers": 3}, "port_drops": {}, "failures": []}
      """
    #expect("\(NetInformation(isConnected: true, card).json)" == expected)
  }
}
