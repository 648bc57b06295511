import GuestRAM
import Support
import Testing
import VirtioCore
import Virtqueue

@testable import VirtioNet

@Suite("Net: which queue gets what")
struct NetSteeringTests {
  private static let pairs = 8
  private static let control = 2 * pairs

  private func bench(_ port: ScriptedPort, _ more: Features = [], offering count: Int = 8) throws -> NetBench {
    var bench = try NetBench.card(port, pairs: Self.pairs)
    try bench.start(allFeatures.subtracting([.netControlVLAN]).union(more))
    for pair in 0..<Self.pairs { try bench.offer(count, of: 2048, queue: 2 * pair) }
    return bench
  }

  private func packet(_ frame: TestFrame) -> ScriptedPort.Packet { ScriptedPort.Packet(frame: frame.complete) }

  /// The receive queue's pair that a packet lands in; nil when it lands in none, or in several.
  private func pair(of packet: ScriptedPort.Packet, _ port: ScriptedPort, _ bench: inout NetBench) throws -> Int? {
    let before = try bench.receivedCounts(pairs: Self.pairs)
    port.waiting = [packet]
    bench.host.wake()
    let grown = zip(before, try bench.receivedCounts(pairs: Self.pairs)).map { $1 - $0 }
    return grown.reduce(0, +) == 1 ? grown.firstIndex(of: 1) : nil
  }

  @Test(
    "5.1.6.5.7.3: the table's entry for the hash's low bits is the queue, for the published vectors",
    arguments: [1, 2, 4, 8, 16, 32, 64, 128])
  func vectors(tableCount: Int) throws {
    let port = ScriptedPort()
    var bench = try bench(port, offering: 32)
    var choice = QueueChoice()
    choice.table = (0..<tableCount).map { UInt16(($0 * 5 + 3) % Self.pairs) }
    #expect(try bench.command(choice.bytes, queue: Self.control) == 0)
    for vector in FlowHashTests.vectors {
      let expected = Int(choice.table[Int(vector.all) % tableCount])
      for transport in [TestFrame.Transport.tcp, .udp] {
        let packet = packet(FlowHashTests.frame(vector, transport))
        #expect(try pair(of: packet, port, &bench) == expected)
      }
    }
    #expect(bench.host.device.counters.drops == [:])
  }

  @Test("5.1.6.5.7.3: packets without a hash go to unclassified_queue")
  func unclassified() throws {
    let port = ScriptedPort()
    var bench = try bench(port)
    var choice = QueueChoice()
    choice.table = [1, 1]
    choice.unclassified = 6
    choice.types = HashTypes.tcp4.rawValue
    #expect(try bench.command(choice.bytes, queue: Self.control) == 0)
    #expect(try pair(of: packet(.ip4(.tcp)), port, &bench) == 1)
    #expect(try pair(of: packet(.ip4(.udp)), port, &bench) == 6)
    #expect(try pair(of: packet(.ip6(.tcp)), port, &bench) == 6)
    #expect(try pair(of: ScriptedPort.Packet(frame: frame()), port, &bench) == 6)
    #expect(try pair(of: ScriptedPort.Packet(frame: frame(byteCount: 14)), port, &bench) == 6)
    choice.types = 0
    choice.key = []
    #expect(try bench.command(choice.bytes, queue: Self.control) == 0)
    #expect(try pair(of: packet(.ip4(.tcp)), port, &bench) == 6)
  }

  @Test("5.1.6.5.7.3: what the driver has sent to a queue that is being reset is dropped", arguments: [0, 3])
  func reset(pair: UInt16) throws {
    let port = ScriptedPort()
    var bench = try bench(port)
    var choice = QueueChoice()
    choice.table = [pair]
    choice.unclassified = 5
    #expect(try bench.command(choice.bytes, queue: Self.control) == 0)
    try bench.host.resetQueue(2 * Int(pair))
    port.waiting = [packet(.ip4(.tcp)), ScriptedPort.Packet(frame: frame()), packet(.ip6(.udp))]
    bench.host.wake()
    #expect(try bench.receivedCounts(pairs: Self.pairs) == [0, 0, 0, 0, 0, 1, 0, 0])
    #expect(bench.host.device.counters.drops == [.noBuffers: 2])
  }

  /// A datagram of one of many flows.
  private func flow(_ number: Int) -> ScriptedPort.Packet {
    var frame = TestFrame.ip4(.udp)
    frame.ports = big(UInt16(1024 + number)) + [0, 53]
    return packet(frame)
  }

  @Test("5.1.6.5.6: automatic steering keeps a flow on its queue, and uses every queue that the driver has enabled")
  func automatic() throws {
    let port = ScriptedPort()
    var bench = try bench(port, offering: 64)
    #expect(try bench.command([4, 0, 4, 0], queue: Self.control) == 0)
    var places: [Int?] = []
    for number in 0..<32 {
      let place = try pair(of: flow(number), port, &bench)
      #expect(try pair(of: flow(number), port, &bench) == place)
      places.append(place)
    }
    #expect(Set(places) == [0, 1, 2, 3])
    #expect(try bench.command([4, 0, 1, 0], queue: Self.control) == 0)
    for number in 0..<8 { #expect(try pair(of: flow(number), port, &bench) == 0) }
  }

  @Test("5.1.6.5.6: answers to what was sent on a pair come on that pair, while the driver uses it")
  func answers() throws {
    let port = ScriptedPort()
    var bench = try bench(port, offering: 64)
    #expect(try bench.command([4, 0, 4, 0], queue: Self.control) == 0)
    for (number, sender) in [3, 0, 2, 1, 1, 3, 2, 0, 0, 1, 2, 3].enumerated() {
      var answer = TestFrame.ip4(.udp)
      answer.ports = big(UInt16(1024 + number)) + [0, 53]
      var question = answer
      (question.source, question.target) = (answer.target, answer.source)
      question.ports = Array(answer.ports.suffix(2) + answer.ports.prefix(2))
      try bench.transmit(plainHeader + question.complete, queue: 2 * sender + 1)
      #expect(try pair(of: packet(answer), port, &bench) == sender)
    }
    #expect(try bench.command([4, 0, 1, 0], queue: Self.control) == 0)
    for number in 0..<8 { #expect(try pair(of: flow(number), port, &bench) == 0) }
  }

  @Test("5.1.6.5.6.2: while a queue is being reset, its flows go to another, and none is lost")
  func automaticReset() throws {
    let port = ScriptedPort()
    var bench = try bench(port, offering: 64)
    #expect(try bench.command([4, 0, 4, 0], queue: Self.control) == 0)
    for queue in [0, 4] { try bench.host.resetQueue(queue) }
    port.waiting = (0..<32).map { flow($0) }
    bench.host.wake()
    let counts = try bench.receivedCounts(pairs: Self.pairs)
    #expect(counts[1] + counts[3] == 32)
    #expect(bench.host.device.counters.drops == [:])
  }

  @Test("5.1.6.5.5: the last command decides: after VQ_PAIRS_SET or HASH_CONFIG, steering is automatic again")
  func lastCommand() throws {
    let hash: [UInt8] = [4, 2] + little(HashTypes.all.rawValue) + [UInt8](repeating: 0, count: 8) + [40]
    for command in [[4, 0, 8, 0], hash + FlowHashTests.key] {
      let port = ScriptedPort()
      var bench = try bench(port, [.netHashReport], offering: 64)
      var choice = QueueChoice()
      choice.table = [7]
      choice.unclassified = 7
      choice.transmitCount = 8
      #expect(try bench.command(choice.bytes, queue: Self.control) == 0)
      port.waiting = (0..<48).map { flow($0) }
      bench.host.wake()
      #expect(try bench.receivedCounts(pairs: Self.pairs) == [0, 0, 0, 0, 0, 0, 0, 48])
      #expect(try bench.command(command, queue: Self.control) == 0)
      port.waiting = (0..<48).map { flow($0) }
      bench.host.wake()
      let counts = try bench.receivedCounts(pairs: Self.pairs)
      #expect(counts.reduce(0, +) == 96)
      #expect(counts.allSatisfy { $0 > 0 })
    }
  }

  private static let good = QueueChoice(unclassified: 7, table: [0, 3, 7, 1], transmitCount: 8)

  private static var bad: [QueueChoice] {
    let changes: [(inout QueueChoice) -> Void] = [
      { $0.types = 0x200 }, { $0.types = 0x8000_0000 },
      { $0.table = [0, 1, 2] }, { $0.table = [UInt16](repeating: 0, count: 256) }, { $0.mask = .max }, { $0.mask = 1 },
      { $0.mask = 7 }, { $0.unclassified = 8 }, { $0.unclassified = 0x8000 }, { $0.unclassified = .max },
      { $0.table[3] = 8 }, { $0.table[0] = 0x8001 }, { $0.table[1] = .max },
      { $0.transmitCount = 0 }, { $0.transmitCount = 9 }, { $0.transmitCount = .max },
      { $0.keyByteCount = 39 }, { $0.keyByteCount = 41 }, { $0.keyByteCount = 255 },
      { $0.key.append(0) },
    ]
    return changes.map { change in
      var choice = good
      change(&choice)
      return choice
    }
  }

  @Test("5.1.6.5.7.1: a choice with any field wrong, cut anywhere or too long is refused, and changes nothing")
  func refused() throws {
    var bench = try bench(ScriptedPort())
    #expect(try bench.command(Self.good.bytes, queue: Self.control) == 0)
    let before = bench.host.device.state
    #expect(before.pairCount == 8 && before.steering.table == [0, 3, 7, 1])
    let whole = Self.good.bytes
    let commands = Self.bad.map(\.bytes) + (2..<whole.count).map { Array(whole[..<$0]) } + [whole + [0]]
    for command in commands { #expect(try bench.command(command, queue: Self.control) == 1) }
    var after = bench.host.device.state
    #expect(after.counters.refusedCommands == UInt64(commands.count))
    after.counters = before.counters
    #expect(after == before)
  }

  @Test("5.1.6.4.5: the header tells the hash and what it was made of, once the driver has asked for one")
  func report() throws {
    let port = ScriptedPort()
    var bench = try NetBench.card(port)
    try bench.start([.version1, .netControlQueue, .netHashReport])
    let buffer = try bench.offer(1, of: 2048)
    func header(of packet: ScriptedPort.Packet) throws -> [UInt8] {
      port.waiting = [packet]
      bench.host.wake()
      let used = try bench.rings[0].takeUsed()
      #expect(used?.byteCount == UInt32(20 + packet.frame.count))
      try bench.offer(1, of: 2048)
      #expect(try bench.bytes(packet.frame.count, at: buffer + 20) == packet.frame)
      return try bench.bytes(8, at: buffer + 12)
    }
    let first = packet(FlowHashTests.frame(FlowHashTests.vectors[0], .tcp))
    #expect(try header(of: first) == [0, 0, 0, 0, 0, 0, 0, 0])
    let types: HashTypes = [.tcp4, .ip4, .udp6, .ip6]
    let command = [4, 2] + little(types.rawValue) + [UInt8](repeating: 0, count: 8) + [40] + FlowHashTests.key
    #expect(try bench.command(command) == 0)
    for vector in FlowHashTests.vectors {
      let isIP6 = vector.source.count == 16
      let tcp = try header(of: packet(FlowHashTests.frame(vector, .tcp)))
      #expect(tcp == (isIP6 ? little(vector.addresses) + [4, 0, 0, 0] : little(vector.all) + [2, 0, 0, 0]))
      let udp = try header(of: packet(FlowHashTests.frame(vector, .udp)))
      #expect(udp == (isIP6 ? little(vector.all) + [6, 0, 0, 0] : little(vector.addresses) + [1, 0, 0, 0]))
    }
    #expect(try header(of: ScriptedPort.Packet(frame: frame())) == [0, 0, 0, 0, 0, 0, 0, 0])
  }

  @Test("5.1.6.5.6.3: a hash with a key too long, of unknown types, or cut anywhere is refused, and changes nothing")
  func refusedHash() throws {
    var bench = try NetBench.card(ScriptedPort())
    try bench.start([.version1, .netControlQueue, .netHashReport])
    let start: [UInt8] = [4, 2]
    let reserved = [UInt8](repeating: 0, count: 8)
    let whole = start + little(UInt32(0x1FF)) + reserved + [40] + FlowHashTests.key
    #expect(try bench.command(whole) == 0)
    let before = bench.host.device.state
    var commands = (2..<whole.count).map { Array(whole[..<$0]) } + [whole + [0]]
    commands.append(start + little(UInt32(0x200)) + reserved + [40] + FlowHashTests.key)
    commands.append(start + little(UInt32(1)) + reserved + [41] + FlowHashTests.key + [0])
    for command in commands { #expect(try bench.command(command) == 1) }
    var after = bench.host.device.state
    after.counters = before.counters
    #expect(after == before)
  }

  @Test("packets of a port whose own queue the driver does not use are carried on until there are none")
  func portsOfUnusedPairs() throws {
    let ports = [ScriptedPort(), ScriptedPort()]
    var options = NetOptions(address: cardAddress)
    options.pairCount = 2
    options.queueSize = 256
    var bench = try NetBench(NetDevice(options, ports: ports))
    try bench.start([.version1, .netControlQueue, .netMultiqueue], queues: [0, 1, 4])
    try bench.offer(200, of: 256)
    ports[1].waiting = (0..<200).map { flow($0) }
    bench.host.wake()
    #expect(try bench.receivedCounts(pairs: 2) == [200, 0])
  }

  /// A card with two pairs whose driver wants datagrams in the first queue, which has buffers, and all else in the second.
  private func divided(_ port: ScriptedPort, offering count: Int) throws -> NetBench {
    var bench = try NetBench.card(port, pairs: 2)
    try bench.start(allFeatures.subtracting([.netControlVLAN]))
    var choice = QueueChoice()
    choice.unclassified = 1
    #expect(try bench.command(choice.bytes, queue: 4) == 0)
    try bench.offer(count, of: 2048)
    return bench
  }

  @Test("a queue without buffers keeps its packets in order, and no other queue from its own")
  func passing() throws {
    let port = ScriptedPort()
    var bench = try divided(port, offering: 40)
    let others = (0..<10).map { ScriptedPort.Packet(frame: frame(byteCount: 100 + $0)) }
    port.waiting = others + (0..<20).map { flow($0) }
    bench.host.wake()
    #expect(try bench.receivedCounts(pairs: 2) == [20, 0])
    port.waiting = (0..<20).map { flow($0) }
    bench.host.wake()
    #expect(try bench.receivedCounts(pairs: 2) == [40, 0])
    try bench.offer(16, of: 2048, queue: 2)
    bench.host.kick(2)
    #expect(try bench.rings[2].takeAllUsed().map(\.byteCount) == (0..<10).map { 112 + $0 })
    #expect(bench.host.device.counters.drops == [:])
  }

  @Test("packets that wait for a queue without buffers are dropped and counted before they keep a port from the others")
  func inTheWay() throws {
    let port = ScriptedPort()
    var bench = try divided(port, offering: 64)
    port.waiting = (0..<60).flatMap { [flow($0)] + (0..<4).map { _ in ScriptedPort.Packet(frame: frame()) } }
    bench.host.wake()
    #expect(port.waiting.isEmpty)
    #expect(try bench.receivedCounts(pairs: 2) == [60, 0])
    let dropped = Int(bench.host.device.counters.drops[.noBuffers] ?? 0)
    #expect(dropped >= 240 - PacketBatch.largestCount)
    try bench.offer(64, of: 2048, queue: 2)
    bench.host.kick(2)
    #expect(try bench.receivedCounts(pairs: 2) == [60, 240 - dropped])
    #expect(bench.host.device.counters.drops == [.noBuffers: UInt64(dropped)])
  }

  @Test("packets of a port that all go to one queue wait for its buffers, be they hashed or not", arguments: [1, 2])
  func waiting(pairs: Int) throws {
    let port = ScriptedPort()
    var bench = try NetBench.card(port, pairs: pairs)
    let features = allFeatures.subtracting(pairs == 1 ? [.netControlVLAN, .netMultiqueue] : [.netControlVLAN])
    try bench.start(features)
    #expect(try bench.command(QueueChoice().bytes, queue: 2 * pairs) == 0)
    try bench.offer(1, of: 2048)
    port.waiting = (0..<150).map { flow($0) }
    bench.host.wake()
    #expect(try bench.receivedCounts(pairs: 1) == [1])
    #expect(port.waiting.count == 86)
    #expect(bench.host.device.counters.drops == [:])
  }
}
