import LinuxIO
import Testing

@testable import VirtioNet

@Suite("Learning switch") struct LearningSwitchTests {
  private let clock = StandingClock()
  private let a: UInt64 = 0x5254_0000_000A
  private let b: UInt64 = 0x5254_0000_000B
  private let c: UInt64 = 0x5254_0000_000C

  private func network(_ change: (inout SwitchOptions) -> Void = { _ in }) -> LearningSwitch {
    var options = SwitchOptions()
    change(&options)
    return LearningSwitch(options) { [clock] in clock.now }
  }

  private func ports(_ count: Int, of network: LearningSwitch) throws -> [SwitchPort] {
    try (0..<count).map { try network.addPort("p\($0)") }
  }

  @Test("a frame for an address that is not known goes to all but its sender, and to one once it is known")
  func learns() throws {
    let ports = try ports(3, of: network())
    let question = BenchFrame.bytes(to: b, from: a)
    ports[0].sendAll([question])
    #expect(ports.map { $0.receiveAll() } == [[], [question], [question]])
    let answer = BenchFrame.bytes(to: a, from: b)
    ports[1].sendAll([answer])
    #expect(ports.map { $0.receiveAll() } == [[answer], [], []])
    ports[0].sendAll([question])
    #expect(ports.map { $0.receiveAll() } == [[], [question], []])
  }

  @Test(
    "broadcast and multicast go to all but their sender", arguments: [0xFFFF_FFFF_FFFF, 0x0100_5E00_0001] as [UInt64])
  func groups(group: UInt64) throws {
    let ports = try ports(3, of: network())
    let frame = BenchFrame.bytes(to: group, from: a)
    for _ in 0..<2 {
      ports[0].sendAll([frame])
      #expect(ports.map { $0.receiveAll() } == [[], [frame], [frame]])
    }
  }

  @Test("a frame never goes back to where it came from")
  func notBack() throws {
    let ports = try ports(2, of: network())
    ports[0].sendAll([BenchFrame.bytes(to: b, from: a), BenchFrame.bytes(to: a, from: b)])
    #expect(ports[0].receiveAll().isEmpty)
    #expect(ports[1].receiveAll().count == 1)
    #expect(ports[0].counters.drops == [.filtered: 1])
  }

  @Test("an address that has not been heard of for the ageing is forgotten, and not one that has")
  func ages() throws {
    let network = network()
    let ports = try ports(3, of: network)
    ports[0].sendAll([BenchFrame.bytes(to: BenchFrame.everybody, from: a)])
    ports[1].sendAll([BenchFrame.bytes(to: BenchFrame.everybody, from: b)])
    clock.advance(.seconds(200))
    ports[0].sendAll([BenchFrame.bytes(to: BenchFrame.everybody, from: a)])
    clock.advance(.seconds(101))
    #expect(network.table.map(\.address.rawValue) == [a])
    #expect(network.table.first?.age == .seconds(101))
    _ = ports.map { $0.receiveAll() }
    ports[2].sendAll([BenchFrame.bytes(to: a, from: c), BenchFrame.bytes(to: b, from: c)])
    #expect(ports[0].receiveAll().count == 2, "to b it is flooded")
    #expect(ports[1].receiveAll().count == 1)
  }

  @Test("an address that moves is followed at once")
  func moves() throws {
    let network = network()
    let ports = try ports(3, of: network)
    for place in [0, 1, 0, 1] {
      ports[place].sendAll([BenchFrame.bytes(to: BenchFrame.everybody, from: a)])
      _ = ports.map { $0.receiveAll() }
      ports[2].sendAll([BenchFrame.bytes(to: a, from: c)])
      #expect(ports.map { $0.receiveAll().count } == (place == 0 ? [1, 0, 0] : [0, 1, 0]))
    }
    #expect(network.table.count == 2)
  }

  @Test("a RARP announcement moves an address, even if it is too much to be flooded")
  func announcement() throws {
    let network = network { $0.floodRate = TokenBucket.Rate(perSecond: 1) }
    let ports = try ports(3, of: network)
    ports[0].sendAll([BenchFrame.bytes(to: BenchFrame.everybody, from: a)])
    var rarp = BenchFrame.bytes(to: BenchFrame.everybody, from: a)
    rarp.replaceSubrange(12..<14, with: [0x80, 0x35])
    ports[1].sendAll([BenchFrame.bytes(to: BenchFrame.everybody, from: b), rarp])
    #expect(ports[1].counters.drops == [.rate: 1])
    _ = ports.map { $0.receiveAll() }
    ports[2].sendAll([BenchFrame.bytes(to: a, from: c)])
    #expect(ports.map { $0.receiveAll().count } == [0, 1, 0])
  }

  @Test("frames that are too short, all zero or from a group teach nothing and harm nothing")
  func hostile() throws {
    let network = network()
    let ports = try ports(2, of: network)
    let group = BenchFrame.bytes(to: b, from: 0x0100_0000_0001)
    let shortTag = Array(BenchFrame.bytes(to: b, from: a, tag: 5).prefix(17))
    ports[0].sendAll([[], [1], [UInt8](repeating: 0, count: 13), shortTag, [UInt8](repeating: 0, count: 60), group])
    #expect(ports[0].counters.drops == [.tooShort: 4])
    #expect(ports[1].receiveAll() == [[UInt8](repeating: 0, count: 60), group])
    #expect(network.table.isEmpty)
  }

  @Test("what is for the bridge itself, such as a pause, is not passed on")
  func reserved() throws {
    let ports = try ports(2, of: network())
    ports[0].sendAll((0..<17).map { BenchFrame.bytes(to: 0x0180_C200_0000 + $0, from: a) })
    #expect(ports[1].receiveAll().count == 1)
    #expect(ports[0].counters.drops == [.filtered: 16])
  }

  @Test("flooding is bounded by the sender, and what is for one port is not")
  func floodRate() throws {
    let ports = try ports(3, of: network { $0.floodRate = TokenBucket.Rate(perSecond: 10, burst: 5) })
    ports[1].sendAll([BenchFrame.bytes(to: BenchFrame.everybody, from: b)])
    _ = ports.map { $0.receiveAll() }
    let flood = [[UInt8]](repeating: BenchFrame.bytes(to: BenchFrame.everybody, from: a), count: 20)
    ports[0].sendAll(flood + [BenchFrame.bytes(to: b, from: a)])
    #expect(ports.map { $0.receiveAll().count } == [0, 6, 5])
    #expect(ports[0].counters.drops == [.rate: 15])
    clock.advance(.milliseconds(200))
    ports[0].sendAll(flood)
    #expect(ports[2].receiveAll().count == 2)
  }

  @Test("a card that does not ask loses what is beyond its queue, and no other does")
  func queueBounds() throws {
    let ports = try ports(3, of: network { $0.queuePacketCount = 8 })
    for number in 0..<30 {
      ports[0].sendAll([BenchFrame.bytes(to: BenchFrame.everybody, from: a, UInt32(number))])
      #expect(ports[1].receiveAll().map(BenchFrame.number) == [UInt32(number)])
    }
    #expect(ports[2].counters.drops == [.queueFull: 22])
    #expect(ports[2].receiveAll().map(BenchFrame.number) == Array(0..<8))
    #expect(ports[0].counters.drops.isEmpty && ports[0].counters.sent == 30)
  }

  @Test("a queue is bounded by bytes, and the largest frame fits into the smallest")
  func byteBounds() throws {
    let ports = try ports(2, of: network { $0.queueByteCount = 0 })
    let head = BenchFrame.bytes(to: b, from: a)
    let largest = head + [UInt8](repeating: 7, count: PacketBatch.largestFrameByteCount - head.count)
    for _ in 0..<3 {
      ports[0].sendAll([largest, head])
      #expect(ports[1].receiveAll() == [largest])
    }
    #expect(ports[1].counters.drops == [.queueFull: 3])
  }

  @Test("the table is bounded, and whoever makes addresses up displaces its own")
  func tableBounds() throws {
    let network = network {
      $0.addressCount = 16
      $0.floodRate = nil
    }
    let ports = try ports(3, of: network)
    ports[1].sendAll([BenchFrame.bytes(to: BenchFrame.everybody, from: b)])
    for number in 0..<1000 {
      ports[0].sendAll([BenchFrame.bytes(to: BenchFrame.everybody, from: a + 0x100 + UInt64(number))])
    }
    #expect(network.table.count == 16)
    #expect(network.table.contains { $0.address.rawValue == b && $0.port == "p1" })
    #expect(network.table.filter { $0.port == "p0" }.map(\.address.rawValue) == (985..<1000).map { a + 0x100 + $0 })
    ports[2].sendAll([BenchFrame.bytes(to: BenchFrame.everybody, from: c)])
    #expect(network.table.contains { $0.address.rawValue == c }, "there is a place for who comes late")
  }

  @Test("a switch that learns nothing floods")
  func noTable() throws {
    let ports = try ports(3, of: network { $0.addressCount = 0 })
    for (sender, target, source) in [(0, b, a), (1, a, b)] {
      ports[sender].sendAll([BenchFrame.bytes(to: target, from: source)])
      #expect(ports.map { $0.receiveAll().count } == (sender == 0 ? [0, 1, 1] : [1, 0, 1]))
    }
  }

  @Test("a port that is removed says so, wakes its card, and is forgotten; its place is used again")
  func removal() throws {
    let network = network()
    let ports = try ports(3, of: network)
    ports[1].sendAll([BenchFrame.bytes(to: BenchFrame.everybody, from: b)])
    #expect(ports[1].failure == nil)
    #expect(network.removePorts(named: "p1"))
    #expect(!network.removePorts(named: "p1"))
    #expect(ports[1].failure == .disconnected("switch:p1"))
    #expect(network.table.isEmpty)
    let late = try network.addPort("late")
    ports[1].sendAll([BenchFrame.bytes(to: BenchFrame.everybody, from: b)])
    #expect(ports[1].counters.sent == 1 && ports[1].counters.drops == [.portFailed: 1])
    #expect(late.counters == PortCounters(), "the old port is not taken for the new one")
    ports[0].sendAll([BenchFrame.bytes(to: b, from: a)])
    #expect(late.receiveAll().count == 1 && ports[1].receiveAll().isEmpty)
  }

  @Test("a port ends with its card, and a switch without another drops what it gets")
  func end() throws {
    let network = network()
    let one = try network.addPort("one")
    do {
      let other = try network.addPort("other")
      one.sendAll([BenchFrame.bytes(to: b, from: a)])
      #expect(other.receiveAll().count == 1)
    }
    one.sendAll([BenchFrame.bytes(to: b, from: a)])
    #expect(network.counters.map(\.port) == ["one"])
    #expect(network.counters.first?.counters == one.counters)
    #expect(one.counters.drops == [.noReceiver: 1])
  }

  @Test("the header goes with the frame, as it was")
  func header() throws {
    let ports = try ports(2, of: network())
    var header = NetHeader()
    header.flags = [.needsChecksum]
    header.segmentation = .tcp4
    header.segmentByteCount = 1448
    header.checksumStart = 34
    header.checksumOffset = 16
    ports[0].sendAll([BenchFrame.bytes(to: b, from: a)], header)
    var batch = PacketBatch()
    ports[1].receive(into: &batch)
    #expect(batch.header(0) == header)
    #expect(ports[0].takenOffloads == .all)
  }

  @Test("the descriptor gives a sign when there is something again, and none while there still is")
  func signs() throws {
    let ports = try ports(2, of: network())
    let frame = BenchFrame.bytes(to: b, from: a)
    let loop = try EventLoop()
    try loop.watch(try #require(ports[1].descriptor), for: [.readable, .onChange]) {}
    for _ in 0..<3 {
      ports[0].sendAll([frame])
      #expect(try loop.runOnce(within: .zero) == 1)
      ports[0].sendAll([frame])
      #expect(try loop.runOnce(within: .zero) == 0)
      #expect(ports[1].receiveAll().count == 2)
    }
  }
}
