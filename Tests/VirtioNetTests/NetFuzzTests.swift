import GuestRAM
import Support
import Testing
import VirtioCore
import Virtqueue

@testable import VirtioNet

@Suite("Net: anything that drivers, ports and operators may do")
struct NetFuzzTests {
  @Test(
    "2.1.2: no chain is kept, and each packet is sent, received, dropped or waits, whatever comes in which order",
    arguments: [false, true])
  func anything(cuts: Bool) throws {
    let chaos = try Chaos(SeededGenerator(for: "anything that happens to a network card"), cuts: cuts)
    for _ in 0..<4000 {
      try chaos.act()
      try chaos.check()
    }
    let counters = chaos.bench.host.device.counters
    #expect(counters.receivedPackets > 20 && counters.transmittedPackets > 100, "\(counters)")
    #expect(counters.commands > 20 && counters.refusedCommands > 20)
    #expect(counters.drops.count > 6)
    #expect(chaos.brokenCount > 0)
  }
}

/// A port that has room, packets and a cable now and then.
private final class ChaosPort: PacketPort {
  let name = "chaos"
  var takenOffloads: Offloads = .all
  var descriptor: Int32? { nil }
  var counters = PortCounters()
  var failure: PortError?
  var waiting: [ScriptedPort.Packet] = []
  var room = 0

  func setGivenOffloads(_ offloads: Offloads) {}

  func send(_ batch: inout PacketBatch) {
    let count = min(room, batch.count)
    batch.removeFirst(count)
    room -= count
    counters.sent += UInt64(count)
  }

  func receive(into batch: inout PacketBatch) {
    while let packet = waiting.first, batch.append(packet.frame[...], packet.header) {
      waiting.removeFirst()
      counters.received += 1
    }
  }
}

private final class Chaos {
  static let pairs = 3
  var random: SeededGenerator
  /// Whether packets may be cut, after which they cannot be counted one for one.
  let cuts: Bool
  let port: ChaosPort
  var bench: NetBench
  var brokenCount = 0
  /// Packets of drivers that the card has taken, but for those that it may not.
  private var takenCount = 0
  /// What the card has sent of itself.
  private var announcedCount: UInt64 = 0

  init(_ random: SeededGenerator, cuts: Bool) throws {
    self.random = random
    self.cuts = cuts
    let port = ChaosPort()
    self.port = port
    var options = NetOptions(address: cardAddress)
    options.pairCount = Self.pairs
    options.queueSize = 16
    options.mtu = 1500
    options.announcesMoves = false
    bench = try NetBench(NetDevice(options, ports: [port]))
    try startAnew()
  }

  private func number(_ count: Int) -> Int { Int.random(in: 0..<count, using: &random) }

  private func garbage(_ count: Int) -> [UInt8] {
    (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
  }

  func act() throws {
    switch number(40) {
    case 0..<10: try transmit()
    case 10..<18: try offer()
    case 18..<24: givePacket()
    case 24..<28: try command()
    case 28..<31: port.room = number(20)
    case 31: bench.host.wake()
    case 32: bench.host.pause()
    case 33: bench.host.resume()
    case 34: try resetQueue(number(2 * Self.pairs + 1))
    case 35: operate()
    case 36: if random.once(in: 4) { try startAnew() }
    case 37: if random.once(in: 4) { try saveAndRestore() }
    case 38: _ = bench.host.poll()
    default: if cuts { port.takenOffloads = Offloads(rawValue: UInt32(number(128))) }
    }
  }

  /// Sees that the sums are right.
  func check() throws {
    for pair in 0..<Self.pairs {
      takenCount += try bench.rings[2 * pair + 1].takeAllUsed().count
      _ = try bench.rings[2 * pair].takeAllUsed()
    }
    let isKept = bench.host.hasChainsInFlight && !bench.host.isBroken
    #expect(!isKept)
    let came = takenCount + Int(port.counters.received)
    try #require(cuts ? came <= gone : came == gone, "\(came) came, \(gone) are gone or wait")
    if bench.host.isBroken {
      brokenCount += 1
      try startAnew()
    }
  }

  private func startAnew() throws {
    try bench.host.writeStatus([])
    for queue in bench.rings.indices { try renewRing(queue) }
    var features: Features = [.version1, .netControlQueue]
    for bit in 0..<64 where bench.host.offeredFeatures.contains(Feature(rawValue: bit)) && !random.once(in: 3) {
      features.insert(Feature(rawValue: bit))
    }
    if cuts { port.takenOffloads = random.once(in: 2) ? .all : [] }
    if !random.once(in: 3) { port.failure = nil }
    bench.host.resume()
    try bench.start(features)
  }

  private func renewRing(_ queue: Int) throws {
    let ring = bench.rings[queue]
    bench.rings[queue] = try RingFixture(
      size: ring.size, memory: bench.memory, at: ring.descriptorTable.rawValue, indirectCapacity: 8)
  }

  private func resetQueue(_ queue: Int) throws {
    try bench.host.resetQueue(queue)
    try renewRing(queue)
    if !random.once(in: 3) { try bench.host.startQueue(queue, bench.rings[queue].configuration()) }
    bench.host.wake()
  }

  private func saveAndRestore() throws {
    bench.host.pause()
    var snapshot = try bench.save()
    let state = bench.host.device.state
    try bench.host.restore(from: &snapshot)
    #expect(bench.host.device.state == state)
    // What waited was counted where it stayed.
    takenCount = gone - Int(port.counters.received)
    bench.host.resume()
  }

  /// All packets that came, as the sum of what became of them.
  private var gone: Int {
    var sum = bench.host.device.counters.dropCounts.reduce(bench.host.device.counters.receivedPackets, +)
    for lane in bench.host.device.lanes {
      sum += UInt64(lane.outgoing.count + lane.outgoingFallback.waitingCount)
      sum += UInt64(lane.incoming.count + lane.incomingFallback.waitingCount)
    }
    return Int(sum + port.counters.sent - announcedCount)
  }

  private func operate() {
    switch number(10) {
    case 0:
      port.failure = .disconnected("chaos")
      bench.host.wake()
    case 1: bench.host.update { $0.setMTU(9000) }
    case 2:
      let before = port.counters.sent
      bench.host.update { $0.announce() }
      announcedCount += port.counters.sent - before
    default:
      port.failure = nil
      let isUp = !random.once(in: 10)
      bench.host.update { $0.setLink(isUp: isUp) }
    }
  }
}

/// What goes through the card.
extension Chaos {
  /// A packet that may be right, and a header that may be its own.
  private func packet(mayCut: Bool) -> ScriptedPort.Packet {
    let payload = garbage(number(4) == 0 ? number(4000) : number(100))
    let transport = random.once(in: 2) ? TestFrame.Transport.tcp : .udp
    let frame: TestFrame = random.once(in: 2) ? .ip4(transport, payload: payload) : .ip6(transport, payload: payload)
    let kinds: [NetHeader.Segmentation] = [.none, .none, .tcp4, .tcp6, .udpFragments, .udpDatagrams]
    let kind = mayCut ? kinds[number(6)] : .none
    var header = random.once(in: 3) ? NetHeader() : frame.header(kind, size: 1 + number(1500))
    if random.once(in: 10) { header.checksumStart = UInt16(number(70)) }
    if random.once(in: 10) { header.checksumOffset = UInt16(number(0x10000)) }
    if random.once(in: 10) { header.hasCongestionBit = true }
    if random.once(in: 10) { header.flags.formSymmetricDifference(.needsChecksum) }
    var bytes = header.flags.contains(.needsChecksum) ? frame.partial : frame.complete
    if random.once(in: 10) { bytes = garbage(number(80)) }
    if random.once(in: 20), bytes.count >= 14 { bytes[12..<14] = [0x08, 0x06] }
    return ScriptedPort.Packet(header: header, frame: bytes)
  }

  private func givePacket() {
    for _ in 0...number(3) where port.waiting.count < 100 { port.waiting.append(packet(mayCut: cuts)) }
    bench.host.wake()
  }

  private func transmit() throws {
    let packet = packet(mayCut: true)
    var bytes = [UInt8](repeating: 0, count: 12)
    packet.header.store(in: &bytes, at: 0)
    if random.once(in: 20) { bytes = garbage(12) }
    if bench.host.features.contains(.netHashReport) { bytes += [UInt8](repeating: 0, count: 8) }
    bytes += packet.frame
    if random.once(in: 20) { bytes = Array(bytes.prefix(number(40))) }
    let start = bench.heap + UInt64(number(16)) * 0x2000
    try bench.memory.write(bytes: bytes, at: GuestAddress(start))
    let byteCount = random.once(in: 200) ? 70000 : bytes.count
    let queue = 2 * number(Self.pairs) + 1
    try bench.rings[queue].send(buffers(start, byteCount, isWritable: false))
    bench.host.kick(queue)
  }

  private func offer() throws {
    let queue = 2 * number(Self.pairs)
    for slot in 0..<UInt64(1 + number(6)) {
      let byteCount = [12, 200, 1600, 4096, 4096, 4096][number(6)]
      try bench.rings[queue].send(buffers(bench.heap + 0x20000 + slot * 0x1000, byteCount, isWritable: true))
    }
    bench.host.kick(queue)
  }

  /// A buffer split anywhere, and now and then one of the wrong kind or outside of memory.
  private func buffers(_ start: UInt64, _ byteCount: Int, isWritable: Bool) -> [RingFixture.Buffer] {
    var buffers: [RingFixture.Buffer] = []
    var place = 0
    while place < byteCount || buffers.isEmpty {
      let length = buffers.count == 5 || random.once(in: 2) ? byteCount - place : number(byteCount - place + 1)
      let isRight = !random.once(in: 100)
      let address = random.once(in: 300) ? random.next() : start + UInt64(place)
      buffers.append(isWritable == isRight ? .writable(address, UInt32(length)) : .readable(address, UInt32(length)))
      place += length
    }
    return buffers
  }

  private func command() throws {
    var choice = QueueChoice()
    choice.table = (0..<(1 << number(4))).map { _ in UInt16(number(Self.pairs + (random.once(in: 4) ? 1 : 0))) }
    choice.unclassified = UInt16(number(Self.pairs))
    choice.transmitCount = UInt16(number(Self.pairs + 1))
    let address = EthernetAddress.random(using: &random).bytes
    let vlan = UInt8(truncatingIfNeeded: number(256))
    let commands: [[UInt8]] = [
      choice.bytes, [4, 0, UInt8(number(5)), 0], [4, 2] + choice.bytes.dropFirst(2), [3, 0],
      [0, UInt8(number(7)), UInt8(number(2))], [1, 1] + address, [1, 0, 1, 0, 0, 0] + address + [0, 0, 0, 0],
      [2, UInt8(number(2)), vlan, UInt8(number(17))], [5, 0, vlan, vlan, 0, 0, 0, 0, 0, 0], [6, 1] + garbage(8),
    ]
    var bytes = commands[number(commands.count)]
    if random.once(in: 4) { bytes[number(bytes.count)] = UInt8(truncatingIfNeeded: number(256)) }
    if random.once(in: 6) { bytes = Array(bytes.prefix(number(bytes.count))) }
    let hasManyPairs = bench.host.features.contains(.netMultiqueue) || bench.host.features.contains(.netRSS)
    let queue = hasManyPairs ? 2 * Self.pairs : 2
    let start = bench.heap + 0x3F000
    try bench.memory.write(bytes: bytes, at: GuestAddress(start))
    let answer = RingFixture.Buffer.writable(start + 0x800, UInt32(number(20) == 0 ? 0 : 1))
    try bench.rings[queue].send(buffers(start, bytes.count, isWritable: false) + [answer])
    bench.host.kick(queue)
    _ = try bench.rings[queue].takeAllUsed()
  }
}
