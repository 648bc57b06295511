import DeviceState
import GuestRAM
import Support
import Testing
import VirtioCore
import Virtqueue

@testable import VirtioNet

@Suite("Net: a card that moves")
struct NetMoveTests {
  private static let pairs = 3
  private static let control = 2 * pairs
  private static let other = NetControlTests.other
  private static let group = NetControlTests.group

  /// A driver that has told its card all it can.
  private func bench(_ port: ScriptedPort, _ features: Features = allFeatures) throws -> NetBench {
    var bench = try NetBench.card(port, pairs: Self.pairs)
    try bench.start(features)
    var choice = QueueChoice()
    choice.table = [2, 1]
    choice.unclassified = 1
    choice.transmitCount = 3
    let tables = [1, 0, 0, 0] + cardAddress.bytes + [1, 0, 0, 0] + Self.group.bytes
    let commands = [
      [0, 0, 0], [1, 1] + Self.other.bytes, [1, 0] + tables, [2, 0, 5, 0], [5, 0, 2, 0, 0, 0, 0, 0, 0, 0],
      [6, 0, 1, 0, 0, 0, 2, 0, 0, 0], choice.bytes,
    ]
    for command in commands { #expect(try bench.command(command, queue: Self.control) == 0) }
    for pair in 0..<Self.pairs { try bench.offer(24, of: 2048, queue: 2 * pair) }
    return bench
  }

  private func tagged(_ vlan: UInt8) -> [UInt8] {
    var bytes = frame(type: 0x8100)
    bytes[14] = 0
    bytes[15] = vlan
    return bytes
  }

  /// What becomes of packets of many kinds, and how it is counted.
  private func behaviour(_ port: ScriptedPort, _ bench: inout NetBench) throws -> [String] {
    var tcp = TestFrame.ip4(.tcp, payload: [UInt8](repeating: 7, count: 3000))
    tcp.ports = [1, 2, 3, 5]
    let toOther = Self.other.bytes + tcp.partial.dropFirst(6)
    port.waiting = [
      frame(), frame(to: Self.other), frame(to: cardAddress), frame(to: Self.group), tagged(5), tagged(6),
    ]
    .map { ScriptedPort.Packet(frame: $0) }
    port.waiting.append(ScriptedPort.Packet(frame: frame(to: EthernetAddress([2, 9, 9, 9, 9, 9], at: 0))))
    port.waiting.append(ScriptedPort.Packet(header: tcp.header(.tcp4, size: 1000), frame: toOther))
    bench.host.wake()
    try bench.transmit(plainHeader + frame(), slot: 1, queue: 5)
    var outcome = try bench.receivedCounts(pairs: Self.pairs).map { "\($0)" }
    outcome.append("\(port.sent.suffix(1).map(\.frame) == [frame()])")
    outcome.append("\(port.givenOffloads.rawValue) \(bench.host.device.counters)")
    outcome.append("\(bench.host.readConfig(at: 0, byteCount: 24)) \(bench.host.device.isLinkUp)")
    return outcome
  }

  @Test("a card that has moved does with every packet what it would have done where it was")
  func everything() throws {
    let (stayed, left, arrived) = (ScriptedPort(), ScriptedPort(), ScriptedPort())
    var here = try bench(stayed)
    var there = try bench(left)
    _ = try behaviour(stayed, &here)
    _ = try behaviour(left, &there)
    let state = there.host.device.state
    var moved = try there.moved(to: arrived, pairs: Self.pairs) { $0.announcesMoves = false }
    #expect(moved.host.device.state == state)
    #expect(arrived.sent.isEmpty)
    let expected = try behaviour(stayed, &here)
    #expect(try behaviour(arrived, &moved) == expected)
    #expect(expected[0] == "0" && expected[1] != "0" && expected[2] != "0")
    #expect(moved.host.device.counters.receivedPackets > state.counters.receivedPackets)
    #expect(moved.host.failure == nil)
  }

  @Test("a link that the operator took down stays down where the card goes")
  func linkDown() throws {
    let (left, arrived) = (ScriptedPort(), ScriptedPort())
    var bench = try bench(left)
    bench.host.update { $0.setLink(isUp: false) }
    var moved = try bench.moved(to: arrived, pairs: Self.pairs)
    let isLinkUp = moved.host.device.isLinkUp
    #expect(!isLinkUp)
    #expect(moved.host.readConfig(at: 6, byteCount: 1)[0] & 1 == 0)
    try moved.transmit(plainHeader + frame())
    #expect(arrived.sent.isEmpty)
  }

  private static func neighbour(_ kind: UInt8, from source: [UInt8], target: [UInt8], hopLimit: UInt8 = 255) -> [UInt8]
  {
    let ip: [UInt8] = [0x60, 0, 0, 0, 0, 24, 58, hopLimit]
    let to: [UInt8] = [0xFF, 2] + [UInt8](repeating: 0, count: 13) + [1]
    return frame(type: 0x86DD, byteCount: 14) + ip + source + to + [kind, 0, 0, 0, 0, 0, 0, 0] + target
  }

  private static func address6(_ number: UInt8) -> [UInt8] { [0xFD] + [UInt8](repeating: 0, count: 14) + [number] }

  private static func arp(_ sender: UInt32) -> [UInt8] {
    Announcement.gratuitousRequest(mac: cardAddress, address: sender)
  }

  /// What a card remembers of a guest that has sent some frames.
  private func names(_ frames: [[UInt8]]) throws -> GuestNames {
    var bench = try NetBench.card(ScriptedPort())
    try bench.start()
    for frame in frames { try bench.transmit(plainHeader + frame) }
    return bench.host.device.names
  }

  @Test("RFC 826, RFC 4861: the names of a guest are learned from what it says to its neighbours, each once")
  func learned() throws {
    let names = try names([
      Self.arp(0x0A00_0001), Self.arp(0x0A00_0001), Self.arp(0x0A00_0002),
      Self.neighbour(135, from: Self.address6(1), target: Self.address6(9)),
      Self.neighbour(136, from: Self.address6(8), target: Self.address6(2)),
      Self.neighbour(136, from: Self.address6(8), target: Self.address6(2)),
    ])
    #expect(names.ipv4Texts == ["10.0.0.1", "10.0.0.2"])
    #expect(names.ipv6Texts == ["fd00:0:0:0:0:0:0:1", "fd00:0:0:0:0:0:0:2"])
  }

  @Test("no name is learned from probes, multicast, other messages, and what is cut or comes through a router")
  func notLearned() throws {
    let none = [UInt8](repeating: 0, count: 16)
    let whole = Self.neighbour(136, from: Self.address6(1), target: Self.address6(1))
    var foreign = Self.arp(1)
    foreign[15] = 6
    let probes = [
      Self.arp(0), foreign, Array(Self.arp(1)[..<41]), frame(type: 0x0806, byteCount: 14),
      frame(type: 0x86DD, byteCount: 14), Array(whole[..<(whole.count - 1)]),
      Self.neighbour(135, from: none, target: Self.address6(1)),
      Self.neighbour(136, from: Self.address6(1), target: [0xFF] + Self.address6(1).dropFirst()),
      Self.neighbour(134, from: Self.address6(1), target: Self.address6(1)),
      Self.neighbour(136, from: Self.address6(1), target: Self.address6(1), hopLimit: 254),
    ]
    #expect(try names(probes) == GuestNames())
  }

  @Test("of each kind the eight youngest names are remembered")
  func bounded() throws {
    let names = try names(
      (1...20).flatMap { number in
        [Self.arp(UInt32(number)), Self.neighbour(136, from: Self.address6(1), target: Self.address6(UInt8(number)))]
      })
    #expect(names.ipv4 == Array(13...20))
    #expect(names.ipv6 == (13...20).map { Self.address6($0) })
  }

  /// A guest with two names of each kind, on a card that has moved.
  private func named(
    _ port: ScriptedPort, _ features: Features = allFeatures, linkUp: Bool = true
  ) throws -> NetBench {
    var bench = try bench(ScriptedPort(), features)
    for number in 1...2 {
      try bench.transmit(plainHeader + Self.arp(UInt32(number)))
      try bench.transmit(
        plainHeader + Self.neighbour(136, from: Self.address6(1), target: Self.address6(UInt8(number))))
    }
    bench.host.update { $0.setLink(isUp: linkUp) }
    return try bench.moved(to: port, pairs: Self.pairs)
  }

  private static var announcements: [[UInt8]] {
    [Announcement.reverseRequest(mac: other)]
      + (1...2).map { Announcement.gratuitousRequest(mac: other, address: $0) }
      + (1...2).compactMap { Announcement.neighbourAdvertisement(mac: other, address: address6($0)) }
  }

  @Test("5.1.6.5.4: a card that has moved tells the network once where the guest is, by all its names")
  func announced() throws {
    let port = ScriptedPort()
    var bench = try named(port)
    #expect(port.sent.map(\.frame) == Self.announcements)
    for _ in 0..<3 { bench.host.wake() }
    #expect(port.sent.count == 5)
  }

  @Test("5.1.6.5.4: and asks the driver to do the same, if that has agreed to be asked", arguments: [true, false])
  func asked(isAgreed: Bool) throws {
    var bench = try named(ScriptedPort(), isAgreed ? allFeatures : allFeatures.subtracting([.netGuestAnnounce]))
    #expect(bench.host.readConfig(at: 6, byteCount: 2) == [isAgreed ? 3 : 1, 0])
    #expect(bench.notifications.take().contains(.configuration) == isAgreed)
    #expect(try bench.command([3, 0], queue: Self.control) == (isAgreed ? 0 : 1))
    #expect(bench.host.readConfig(at: 6, byteCount: 2) == [1, 0])
    bench.host.wake()
    #expect(bench.host.readConfig(at: 6, byteCount: 2) == [1, 0])
  }

  @Test("a card that arrives without a link tells the network once it has one")
  func announcedLater() throws {
    let port = ScriptedPort()
    var bench = try named(port, linkUp: false)
    #expect(port.sent.isEmpty)
    bench.host.update { $0.setLink(isUp: true) }
    bench.host.wake()
    #expect(port.sent.map(\.frame) == Self.announcements)
  }

  @Test("a card that no driver has started has nothing to announce")
  func notStarted() throws {
    let port = ScriptedPort()
    var bench = try NetBench.card(ScriptedPort())
    try bench.host.attach(bench.memory)
    var moved = try bench.moved(to: port)
    try moved.start()
    moved.host.wake()
    #expect(port.sent.isEmpty)
  }

  @Test("a restore that is refused leaves a card as after a reset, and the next one works")
  func refused() throws {
    var bench = try bench(ScriptedPort())
    bench.host.pause()
    let good = try bench.save()
    var state = bench.host.device.state
    state.steering.unclassified = 99
    var bad = Snapshot()
    try bad.add(try #require(good.sections.first))
    try bad.add(state)
    var fresh = try NetBench.card(ScriptedPort(), pairs: Self.pairs)
    let before = fresh.host.device.state
    try fresh.host.attach(bench.memory)
    #expect(throws: HostError.self) { try fresh.host.restore(from: &bad) }
    #expect(fresh.host.device.state == before)
    #expect(bad.sections.count == 2)
    var again = good
    try fresh.host.restore(from: &again)
    #expect(fresh.host.device.state == bench.host.device.state)
  }
}
