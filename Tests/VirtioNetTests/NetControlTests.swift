import GuestRAM
import Support
import Testing
import VirtioCore
import VirtioNet
import Virtqueue

extension DeviceBench<NetDevice> {
  fileprivate consuming func refuses(_ command: [UInt8]) throws -> Bool { try self.command(command) == 1 }
}

@Suite("Net: the control queue")
struct NetControlTests {
  static let all: Features = [
    .version1, .netMAC, .netStatus, .netControlQueue, .netControlReceive, .netControlReceiveExtra, .netControlVLAN,
    .netGuestAnnounce, .netControlMACAddress, .netNotificationCoalescing, .netControlGuestOffloads, .netGuestChecksum,
    .netGuestTSO4,
  ]

  private func bench(_ port: ScriptedPort, _ features: Features = all, pairs: Int = 1) throws -> NetBench {
    var bench = try NetBench.card(port, pairs: pairs)
    try bench.start(features)
    return bench
  }

  /// Whether a card that was given some commands accepts a frame.
  private func accepts(_ frame: [UInt8], after commands: [[UInt8]], _ features: Features = all) throws -> Bool {
    let port = ScriptedPort()
    var bench = try bench(port, features)
    for command in commands { #expect(try bench.command(command) == 0) }
    try bench.offer(1, of: 2048)
    port.waiting = [ScriptedPort.Packet(frame: frame)]
    bench.host.kick(0)
    let isDelivered = try bench.rings[0].takeUsed() != nil
    #expect(bench.host.device.counters.drops == (isDelivered ? [:] : [.filtered: 1]))
    return isDelivered
  }

  static let other = EthernetAddress([2, 0, 0, 0, 0, 0x99], at: 0)
  static let group = EthernetAddress([1, 0, 0x5E, 0, 0, 1], at: 0)
  static let quiet: [UInt8] = [0, 0, 0]

  @Test("5.1.6.5.1: a card whose driver has given no command passes everything")
  func promiscuousAtFirst() throws {
    #expect(try accepts(frame(to: Self.other), after: []))
    #expect(try accepts(frame(to: Self.group), after: []))
  }

  @Test("5.1.6.5.1: receive modes")
  func modes() throws {
    let own = frame(to: cardAddress)
    #expect(try accepts(own, after: [Self.quiet]))
    #expect(try !accepts(own, after: [Self.quiet, [0, 4, 1]]))
    #expect(try !accepts(frame(to: Self.other), after: [Self.quiet]))
    #expect(try accepts(frame(to: Self.other), after: [Self.quiet, [0, 2, 1]]))
    #expect(try accepts(frame(to: Self.other), after: [[0, 0, 1], [0, 4, 1]]))
    #expect(try !accepts(frame(to: Self.group), after: [Self.quiet]))
    #expect(try accepts(frame(to: Self.group), after: [Self.quiet, [0, 1, 1]]))
    #expect(try !accepts(frame(to: Self.group), after: [Self.quiet, [0, 1, 1], [0, 3, 1]]))
    #expect(try accepts(frame(), after: [Self.quiet, [0, 3, 1]]))
    #expect(try !accepts(frame(), after: [Self.quiet, [0, 5, 1]]))
  }

  private func table(_ addresses: [EthernetAddress]) -> [UInt8] {
    [UInt8(truncatingIfNeeded: addresses.count), UInt8(addresses.count >> 8), 0, 0] + addresses.flatMap(\.bytes)
  }

  @Test("5.1.6.5.2: the two address tables")
  func tables() throws {
    let set = [1, 0] + table([Self.other]) + table([Self.group])
    #expect(try accepts(frame(to: Self.other), after: [Self.quiet, set]))
    #expect(try accepts(frame(to: Self.group), after: [Self.quiet, set]))
    #expect(try !accepts(frame(to: Self.other), after: [Self.quiet, set, [1, 0] + table([]) + table([])]))
    let most = [1, 0] + table([]) + table([EthernetAddress](repeating: Self.group, count: 600))
    #expect(try accepts(frame(to: Self.group), after: [Self.quiet, most]))
    #expect(try bench(ScriptedPort()).refuses(most.dropLast()))
    let many = (0..<65).map { EthernetAddress([3, 0, 0, 0, 0, $0], at: 0) }
    #expect(try accepts(frame(to: Self.group), after: [Self.quiet, [1, 0] + table([]) + table(many)]))
    #expect(try !accepts(frame(to: Self.other), after: [Self.quiet, [1, 0] + table([]) + table(many)]))
  }

  @Test("5.1.6.5.2: an address that the driver sets is in the configuration before its command is used")
  func ownAddress() throws {
    #expect(try accepts(frame(to: Self.other), after: [Self.quiet, [1, 1] + Self.other.bytes]))
    #expect(try !accepts(frame(to: cardAddress), after: [Self.quiet, [1, 1] + Self.other.bytes]))
    var bench = try bench(ScriptedPort())
    #expect(try bench.command([1, 1] + Self.other.bytes) == 0)
    #expect(bench.host.readConfig(at: 0, byteCount: 6) == Self.other.bytes)
    #expect(try bench.command([1, 1] + Self.group.bytes) == 1)
    #expect(bench.host.readConfig(at: 0, byteCount: 6) == Self.other.bytes)
  }

  private func tagged(_ vlan: UInt16) -> [UInt8] {
    var bytes = frame(type: 0x8100)
    bytes[14] = UInt8(vlan >> 8) | 0xE0
    bytes[15] = UInt8(truncatingIfNeeded: vlan)
    return bytes
  }

  @Test("5.1.6.5.3: VLANs are wanted only once they are added, when VIRTIO_NET_F_CTRL_VLAN is negotiated")
  func vlans() throws {
    #expect(try !accepts(tagged(5), after: []))
    #expect(try accepts(frame(), after: []))
    #expect(try accepts(tagged(4095), after: [[2, 0, 0xFF, 0x0F]]))
    #expect(try !accepts(tagged(4095), after: [[2, 0, 0xFF, 0x0F], [2, 1, 0xFF, 0x0F]]))
    #expect(try accepts(tagged(5), after: [], Self.all.subtracting([.netControlVLAN])))
  }

  @Test(
    "commands that are cut, too long, out of range, unknown or not negotiated are refused and change nothing",
    arguments: [
      [], [0], [0, 0], [0, 0, 2], [0, 0, 1, 0], [0, 6, 1], [1, 0], [1, 0, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0],
      [1, 0, 0xFF, 0xFF, 0xFF, 0xFF], [1, 1, 2, 0, 0, 0, 0], [1, 1, 2, 0, 0, 0, 0, 1, 0], [1, 2], [2, 0, 5],
      [2, 0, 0, 0x10], [2, 2, 5, 0], [3, 0, 0], [3, 1], [4, 0, 1, 0], [4, 1], [4, 2], [5, 0, 0],
      [5, 0, 0, 1, 0, 0, 0, 0, 0, 0], [5, 1, 0, 0, 0, 0, 0, 0, 0, 0], [6, 0, 1, 0, 0, 0],
      [6, 2, 0, 0, 0, 0, 0, 0, 0, 0],
      [7, 0], [255, 255],
    ] as [[UInt8]])
  func refused(command: [UInt8]) throws {
    var bench = try bench(ScriptedPort())
    let before = bench.host.device.state
    #expect(try bench.command(command) == 1)
    var after = bench.host.device.state
    #expect(after.counters.refusedCommands == 1)
    after.counters = before.counters
    #expect(after == before)
  }

  @Test("5.1.6.5.8: the driver takes less undone, and more again, but nothing that it has not agreed to")
  func guestOffloads() throws {
    let port = ScriptedPort()
    var bench = try bench(port)
    #expect(port.givenOffloads == [.checksum, .tcp4])
    #expect(try bench.command([5, 0, 0, 0, 0, 0, 0, 0, 0, 0]) == 0)
    #expect(port.givenOffloads == [])
    #expect(try bench.command([5, 0, 0x82, 0, 0, 0, 0, 0, 0, 0]) == 0)
    #expect(port.givenOffloads == [.checksum, .tcp4])
    #expect(try bench.command([5, 0, 0x02, 1, 0, 0, 0, 0, 0, 0]) == 1)
  }

  @Test("5.1.6.5.4: the announcement is asked for until it is acknowledged, by a command without data")
  func announce() throws {
    var bench = try bench(ScriptedPort())
    bench.host.update { $0.announce() }
    #expect(bench.notifications.take() == [.configuration])
    #expect(bench.host.readConfig(at: 6, byteCount: 2) == [3, 0])
    #expect(try bench.command([3, 0]) == 0)
    #expect(bench.host.readConfig(at: 6, byteCount: 2) == [1, 0])
  }

  @Test("5.1.2: the control queue is queue 2, and moves behind the last pair with MQ or RSS")
  func place() throws {
    let port = ScriptedPort()
    var single = try bench(port, Self.all, pairs: 3)
    #expect(try single.command(Self.quiet, queue: 2) == 0)
    for feature in [.netMultiqueue, .netRSS] as [Feature] {
      var many = try bench(port, Self.all.union([feature]), pairs: 3)
      #expect(try many.command(Self.quiet, queue: 2) == nil)
      #expect(try many.command(Self.quiet, queue: 6) == 0)
    }
  }

  @Test("5.1.6.5.6: the number of pairs is between one and what the card has")
  func pairs() throws {
    var bench = try bench(ScriptedPort(), Self.all.union([.netMultiqueue]), pairs: 3)
    for (count, answer) in [(0, 1), (1, 0), (3, 0), (4, 1), (255, 1)] as [(UInt8, UInt8)] {
      #expect(try bench.command([4, 0, count, 0], queue: 6) == answer)
    }
    #expect(bench.host.device.state.pairCount == 3)
  }
}
