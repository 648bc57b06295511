import DeviceState
import GuestRAM
import Support
import Testing
import VirtioCore
import VirtioNet

/// A port whose other side is the test.
final class TestPort: PacketPort {
  let name = "test"
  let takenOffloads = Offloads.all
  let descriptor: Int32? = nil
  var counters = PortCounters()
  let failure: PortError? = nil
  /// What the card has sent.
  var sent: [[UInt8]] = []
  /// What the card is to get.
  var waiting: [[UInt8]] = []

  func setGivenOffloads(_ offloads: Offloads) {}

  func send(_ batch: inout PacketBatch) {
    while !batch.isEmpty {
      sent.append(Array(batch.bytes[batch.frame(0)]))
      batch.removeFirst()
    }
  }

  func receive(into batch: inout PacketBatch) {
    while let packet = waiting.first, batch.append(packet[...], NetHeader()) { waiting.removeFirst() }
  }
}

/// The moments of a network card.
enum NetMoments {
  private typealias Bench = DeviceBench<NetDevice>
  private static let address = EthernetAddress([0x52, 0x54, 0, 0x12, 0x34, 0x56], at: 0)
  private static let plain: Features = [
    .version1, .indirectDescriptors, .netMAC, .netStatus, .netMergeableBuffers, .netControlQueue, .netControlReceive,
    .netControlVLAN, .netControlMACAddress, .netGuestAnnounce,
  ]

  static let all = made + (fromDrivers + asking).map { moment($0, nil) }
  private static let fromDrivers = ["net-uml-load", "net-qemu-load"]
  /// From a card that asked its driver for a kick with each new receive buffer, which can be read in its rings.
  private static let asking = [
    "net-wrapped", "net-receive-buffers", "net-receive-small-buffers", "net-event-index", "net-filtered",
  ]

  private static let made: [Moment] = [
    moment("net-started") { _ in },
    moment("net-not-started", isStarted: false) { _ in },
    moment("net-sent") { bench in
      for number in 0..<6 { try transmit(&bench, number) }
    },
    moment("net-transmit-waiting") { bench in
      for number in 0..<6 { try transmit(&bench, number) }
      bench.host.pause()
      for number in 6..<11 { try transmit(&bench, number, isSplit: number % 2 == 0) }
    },
    moment("net-wrapped-quiet", index: 65_534) { bench in
      try offer(&bench, 6)
      try deliver(&bench, 4)
      for number in 0..<5 { try transmit(&bench, number) }
      bench.host.pause()
      for number in 5..<8 { try transmit(&bench, number) }
    },
    moment("net-receive-buffers-quiet") { bench in
      try offer(&bench, 5)
      try deliver(&bench, 2)
    },
    moment("net-receive-full") { bench in
      // All buffers are used, and another packet has come.
      try offer(&bench, 3)
      try deliver(&bench, 4)
    },
    moment("net-receive-small-buffers-quiet") { bench in
      try offer(&bench, 6, byteCount: 40)
      try deliver(&bench, 1)
    },
    moment("net-event-index-quiet", features: plain.union([.eventIndex])) { bench in
      try offer(&bench, 4)
      try deliver(&bench, 2)
      bench.host.pause()
      for number in 0..<4 { try transmit(&bench, number) }
    },
    moment("net-in-order", features: plain.union([.inOrder])) { bench in
      for number in 0..<4 { try transmit(&bench, number, kicks: number == 3) }
      bench.host.pause()
      for number in 4..<7 { try transmit(&bench, number) }
    },
    moment("net-filtered-quiet") { bench in
      try command(&bench, [0, 0, 0])
      try command(
        &bench, [1, 0, 1, 0, 0, 0, 0x52, 0x54, 0, 1, 2, 3, 2, 0, 0, 0] + [1, 0, 0x5E, 0, 0, 1, 1, 0, 0x5E, 0, 0, 2])
      try command(&bench, [2, 0, 5, 0])
      try command(&bench, [2, 0, 7, 0])
      try offer(&bench, 3)
      try deliver(&bench, 1)
    },
    moment("net-announcing") { bench in
      bench.host.update { $0.announce(nil) }
      bench.host.pause()
      for number in 0..<2 { try transmit(&bench, number) }
    },
    moment("net-after-reset") { bench in
      try offer(&bench, 3)
      try transmit(&bench, 0)
      try bench.host.writeStatus([])
    },
  ]

  private static func device(pairCount: Int = 1, queueSize: UInt16 = 64, _ port: TestPort = TestPort()) -> NetDevice {
    var options = NetOptions(address: address)
    options.pairCount = pairCount
    options.queueSize = queueSize
    return NetDevice(options, ports: [port])
  }

  private static func moment(
    _ name: String, features: Features = plain, index: UInt16 = 0, isStarted: Bool = true,
    _ story: @escaping @Sendable (inout DeviceBench<NetDevice>) throws -> Void
  ) -> Moment {
    moment(name) {
      var bench = try Bench(device(), ringSize: 16, index: index)
      if isStarted { try bench.start(features) } else { try bench.host.attach(bench.memory) }
      try story(&bench)
      bench.host.pause()
      return try bench.image()
    }
  }

  private static func moment(_ name: String, _ take: (@Sendable () throws -> Snapshot)?) -> Moment {
    Moment(name: name, take: take) { snapshot in
      try goOn(snapshot)
    } restore: { snapshot in
      try StateFixtureTests.restore(device(for: snapshot), from: snapshot)
    }
  }

  /// A card like the one that was saved, as far as that can be read.
  private static func device(for snapshot: Snapshot, _ port: TestPort = TestPort()) -> NetDevice {
    let queues = (try? snapshot.read(HostState<NetState>.self))?.queues ?? []
    let size = queues.map(\.size).filter { $0.nonzeroBitCount == 1 }.max() ?? 64
    let count = (queues.map { Int($0.index) }.max() ?? 0) + 1
    return device(pairCount: count > 3 && count < 64 ? count / 2 : 1, queueSize: max(64, size), port)
  }

  private static func frame(_ number: Int, to destination: [UInt8] = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]) -> [UInt8] {
    let header = destination + [2, 0, 0, 0, 0, UInt8(truncatingIfNeeded: number), 0x88, 0xB5]
    return header + (0..<50).map { UInt8(truncatingIfNeeded: number &+ $0) }
  }

  private static func transmit(
    _ bench: inout DeviceBench<NetDevice>, _ number: Int, isSplit: Bool = false, kicks: Bool = true
  ) throws {
    let room = bench.heap + UInt64(number) * 256
    let packet = [UInt8](repeating: 0, count: 12) + frame(number)
    try bench.memory.write(bytes: packet, at: GuestAddress(room))
    let count = UInt32(packet.count)
    _ = try bench.rings[1].send(
      isSplit ? [.readable(room, 12), .readable(room + 12, count - 12)] : [.readable(room, count)])
    if kicks { bench.host.kick(1) }
  }

  private static func offer(_ bench: inout DeviceBench<NetDevice>, _ count: Int, byteCount: UInt32 = 256) throws {
    for number in 0..<count {
      try bench.rings[0].send([.writable(bench.heap + 0x8000 + UInt64(number) * 256, byteCount)])
    }
    bench.host.kick(0)
  }

  private static func deliver(_ bench: inout DeviceBench<NetDevice>, _ count: Int) throws {
    let port = try #require(bench.host.device.ports.first as? TestPort)
    for number in 0..<count { port.waiting.append(frame(number)) }
    bench.host.wake()
  }

  /// A command with room for its answer, which the driver takes.
  private static func command(_ bench: inout DeviceBench<NetDevice>, _ bytes: [UInt8]) throws {
    let room = bench.heap + 0x10000
    try bench.memory.write(bytes: bytes + [0xEE], at: GuestAddress(room))
    _ = try bench.rings[2].send([.readable(room, UInt32(bytes.count)), .writable(room + UInt64(bytes.count), 1)])
    bench.host.kick(2)
    #expect(try bench.rings[2].takeUsed() != nil)
    #expect(try bench.memory.read(UInt8.self, at: GuestAddress(room + UInt64(bytes.count))) == 0)
  }

  // MARK: - Going on

  private static func goOn(_ snapshot: Snapshot) throws {
    let port = TestPort()
    var resumed = try Resumed(device(for: snapshot, port), from: snapshot)
    let features = resumed.host.features
    let headerByteCount = features.contains(.netHashReport) ? 20 : 12
    let control = features.contains(.netControlQueue) ? resumed.rings.keys.max() : nil
    let transmits = resumed.rings.filter { $0.key % 2 == 1 }
    var packets: [[UInt8]] = []
    for queue in transmits.keys.sorted() {
      for head in resumed.rings[queue]?.waitingHeads ?? [] {
        let buffers = try resumed.rings[queue]?.buffers(of: head) ?? []
        packets.append(Array(try resumed.bytes(buffers).dropFirst(headerByteCount)))
      }
    }
    resumed.host.resume()
    #expect(resumed.host.isBroken == false)
    #expect(port.sent.filter { $0.count > 12 && !isAnnouncement($0) } == packets, "what waited is sent, in order")
    for (queue, ring) in transmits { #expect(try Int(resumed.usedCount(queue)) == ring.waitingHeads.count) }
    try checkReceiving(&resumed, port, control, headerByteCount)
  }

  /// A card that has moved tells its neighbours for its guest.
  private static func isAnnouncement(_ frame: [UInt8]) -> Bool {
    let type = UInt16(frame[12]) << 8 | UInt16(frame[13])
    // RFC 4861, 4.4: a neighbour advertisement.
    if type == 0x86DD, frame.count > 54, frame[20] == 58, frame[54] == 136 { return true }
    return (type == 0x8035 || type == 0x0806) && frame.starts(with: [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF])
  }

  /// 5.1.6.3: a packet for the card comes into the first buffer that waits, or waits for one.
  private static func checkReceiving(
    _ resumed: inout Resumed<NetDevice>, _ port: TestPort, _ control: Int?, _ headerByteCount: Int
  ) throws {
    let receives = resumed.rings.keys.filter { $0 % 2 == 0 && $0 != control }.sorted()
    guard let first = receives.first, let ring = resumed.rings[first] else { return }
    let mac = resumed.host.device.address.bytes
    let packet = frame(77, to: mac)
    port.waiting.append(packet)
    resumed.host.wake()
    if ring.waitingHeads.isEmpty, receives.count == 1 {
      #expect(try resumed.usedCount(first) == 0, "nobody gets it yet")
      let room = resumed.scratch
      try resumed.rings[first]?.send([.writable(room, 256)])
      resumed.host.kick(first)
      resumed.host.wake()
      #expect(try resumed.memory.readBytes(packet.count, at: GuestAddress(room + UInt64(headerByteCount))) == packet)
      return
    }
    let used = try receives.first { try resumed.usedCount($0) > 0 }
    let queue = try #require(used, "the packet came in")
    let heads = resumed.rings[queue]?.waitingHeads ?? []
    let count = try Int(resumed.usedCount(queue))
    let buffers = try heads.prefix(count).flatMap { try resumed.rings[queue]?.buffers(of: $0) ?? [] }
    #expect(try resumed.bytes(buffers).dropFirst(headerByteCount).starts(with: packet))
  }
}
