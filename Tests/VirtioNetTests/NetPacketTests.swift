import GuestRAM
import Support
import Testing
import VirtioCore
import VirtioNet
import Virtqueue

private final class Reports {
  var all: [PortError] = []
}

@Suite("Net: packets between a driver and a port")
struct NetPacketTests {
  @Test(
    "5.1.6.2: a packet goes out as it is, however the driver splits it",
    arguments: [[], [12], [1, 11, 14], [5, 3, 9], [0, 12, 0]] as [[Int]])
  func transmit(split: [Int]) throws {
    let port = ScriptedPort()
    var bench = try NetBench.card(port)
    try bench.start()
    try bench.transmit(plainHeader + frame(), split: split)
    #expect(port.sent == [ScriptedPort.Packet(frame: frame())])
    #expect(try bench.rings[1].takeUsed()?.byteCount == 0)
  }

  @Test(
    "5.1.6: the header in front of a frame has the negotiated size",
    arguments: [([], 10), ([.version1], 12), ([.netMergeableBuffers], 12), ([.version1, .netHashReport], 20)]
      as [(Features, Int)])
  func headerSize(features: Features, byteCount: Int) throws {
    let port = ScriptedPort()
    var bench = try NetBench.card(port)
    try bench.startWithoutStatus(features.union(byteCount == 20 ? [.netControlQueue] : []))
    try bench.transmit([UInt8](repeating: 0, count: byteCount) + frame())
    #expect(port.sent.map(\.frame) == [frame()])
    let buffer = try bench.offer(1, of: 2048)
    port.waiting = [ScriptedPort.Packet(frame: frame())]
    bench.host.wake()
    #expect(try bench.rings[0].takeUsed()?.byteCount == UInt32(byteCount + 64))
    #expect(try bench.bytes(64, at: buffer + UInt64(byteCount)) == frame())
    if byteCount > 10 { #expect(try bench.bytes(2, at: buffer + 10) == [1, 0]) }
  }

  @Test(
    "5.1.6.2: what is no packet is dropped and counted, and its buffers come back",
    arguments: [(0, .tooShort), (11, .tooShort), (25, .tooShort), (12 + 65557 + 1, .tooLong)] as [(Int, DropReason)])
  func noPacket(byteCount: Int, reason: DropReason) throws {
    let port = ScriptedPort()
    var bench = try NetBench.card(port)
    try bench.start()
    try bench.transmit([UInt8](repeating: 0, count: byteCount))
    #expect(port.sent.isEmpty)
    #expect(bench.host.device.counters.drops == [reason: 1])
    #expect(try bench.rings[1].takeUsed() != nil)
  }

  @Test("a port without room keeps the driver's packets in its queue, and gets them in order once it has room")
  func noRoom() throws {
    let port = ScriptedPort()
    port.room = 10
    var bench = try NetBench.card(port)
    try bench.start()
    for number in 0..<60 { try bench.transmit(plainHeader + frame(byteCount: 60 + number), slot: 0) }
    #expect(port.sent.count == 10)
    port.room = .max
    bench.host.wake()
    #expect(port.sent.map(\.frame.count) == Array(60..<120))
    #expect(bench.host.device.counters.drops.isEmpty)
  }

  @Test("5.1.6.3: a frame waits in the port until the driver has a buffer for it")
  func noBuffers() throws {
    let port = ScriptedPort()
    var bench = try NetBench.card(port)
    try bench.start()
    port.waiting = (0..<3).map { ScriptedPort.Packet(frame: frame(byteCount: 60 + $0)) }
    bench.host.wake()
    #expect(try bench.rings[0].takeUsed() == nil)
    try bench.offer(2, of: 2048)
    bench.host.kick(0)
    #expect(try bench.rings[0].takeAllUsed().map(\.byteCount) == [72, 73])
    try bench.offer(1, of: 2048)
    bench.host.kick(0)
    #expect(try bench.rings[0].takeAllUsed().map(\.byteCount) == [74])
    #expect(bench.host.device.counters.receivedPackets == 3)
  }

  @Test(
    "5.1.6.4: num_buffers tells over how many buffers a frame is spread, wherever its bytes lie",
    arguments: [nil, 1, 10, 11, 12, 40] as [Int?], [65, 500, 1500] as [Int])
  func merged(split: Int?, bufferByteCount: Int) throws {
    let port = ScriptedPort()
    var bench = try NetBench.card(port) { $0.queueSize = 128 }
    try bench.start([.version1, .netMergeableBuffers])
    let long = frame(byteCount: 3000)
    let bufferCount = (3012 + bufferByteCount - 1) / bufferByteCount
    let start = try bench.offer(bufferCount, of: bufferByteCount, split: split)
    port.waiting = [ScriptedPort.Packet(frame: long)]
    bench.host.wake()
    let used = try bench.rings[0].takeAllUsed().map(\.byteCount)
    #expect(used.count == bufferCount)
    #expect(used.dropLast().allSatisfy { $0 == bufferByteCount })
    #expect(used.reduce(0, +) == 3012)
    #expect(try bench.bytes(2, at: start + 10) == [UInt8(bufferCount), 0])
    #expect(try bench.bytes(3000, at: start + 12) == long)
  }

  @Test("a merged frame that lacks buffers leaves none of them half used")
  func mergedLacksBuffers() throws {
    let port = ScriptedPort()
    var bench = try NetBench.card(port)
    try bench.start([.version1, .netMergeableBuffers])
    port.waiting = [ScriptedPort.Packet(frame: frame()), ScriptedPort.Packet(frame: frame(byteCount: 3000))]
    try bench.offer(3, of: 1000)
    bench.host.wake()
    #expect(try bench.rings[0].takeAllUsed().map(\.byteCount) == [76])
    try bench.offer(2, of: 1000)
    bench.host.kick(0)
    #expect(try bench.rings[0].takeAllUsed().map(\.byteCount) == [1000, 1000, 1000, 12])
    #expect(bench.host.device.counters.drops.isEmpty)
  }

  @Test("5.1.6.3.1: without merging, a frame that a buffer is too small for is dropped, and the buffer serves the next")
  func bufferTooSmall() throws {
    let port = ScriptedPort()
    var bench = try NetBench.card(port)
    try bench.start()
    port.waiting = [ScriptedPort.Packet(frame: frame(byteCount: 200)), ScriptedPort.Packet(frame: frame())]
    try bench.offer(1, of: 100)
    bench.host.kick(0)
    #expect(try bench.rings[0].takeAllUsed().map(\.byteCount) == [76])
    #expect(bench.host.device.counters.drops == [.bufferTooSmall: 1])
  }

  @Test("a frame that no ring of buffers could hold is dropped, not waited for")
  func hopeless() throws {
    let port = ScriptedPort()
    var bench = try NetBench.card(port) { $0.queueSize = 4 }
    try bench.start([.version1, .netMergeableBuffers])
    port.waiting = [
      ScriptedPort.Packet(frame: frame(byteCount: 200)), ScriptedPort.Packet(frame: frame(byteCount: 20)),
    ]
    try bench.offer(4, of: 40)
    // To find that out takes long, so others get their turn before the next packet.
    let isMore = bench.host.kick(0)
    #expect(isMore)
    #expect(bench.host.device.counters.drops == [.bufferTooSmall: 1])
    #expect(try bench.rings[0].takeUsed() == nil)
    bench.host.kick(0)
    #expect(try bench.rings[0].takeAllUsed().map(\.byteCount) == [32])
  }

  @Test("with the link down nothing passes in either direction, and the driver is told")
  func linkDown() throws {
    let port = ScriptedPort()
    var bench = try NetBench.card(port)
    try bench.start([.version1, .netStatus])
    #expect(bench.host.readConfig(at: 6, byteCount: 2) == [1, 0])
    bench.host.update { $0.setLink(isUp: false) }
    #expect(bench.notifications.take().contains(.configuration))
    #expect(bench.host.readConfig(at: 6, byteCount: 2) == [0, 0])
    try bench.offer(1, of: 2048)
    port.waiting = [ScriptedPort.Packet(frame: frame())]
    bench.host.kick(0)
    try bench.transmit(plainHeader + frame(), slot: 1)
    #expect(port.sent.isEmpty)
    #expect(try bench.rings[0].takeUsed() == nil)
    #expect(try bench.rings[1].takeUsed() != nil)
    #expect(bench.host.device.counters.drops == [.linkDown: 2])
  }

  @Test("a port that has failed takes the link down and is told of once")
  func portFails() throws {
    let port = ScriptedPort()
    var options = NetOptions(address: cardAddress)
    options.queueSize = 64
    let reports = Reports()
    var bench = try NetBench(NetDevice(options, ports: [port]) { reports.all.append($0) })
    try bench.start([.version1, .netStatus])
    port.failure = .disconnected("scripted")
    for _ in 0..<3 { try bench.transmit(plainHeader + frame()) }
    #expect(reports.all == [.disconnected("scripted")])
    #expect(bench.host.readConfig(at: 6, byteCount: 2) == [0, 0])
  }

  @Test(
    "5.1.4.1: a driver that has agreed to an MTU gets nothing beyond the last that was set, before its start or after")
  func mtu() throws {
    let port = ScriptedPort()
    var bench = try NetBench.card(port) { $0.mtu = 1500 }
    bench.host.update { $0.setMTU(1000) }
    try bench.start([.version1, .netMTU])
    try bench.offer(8, of: 4096)
    for (mtu, larger) in [(nil, 1019), (2000, 2019), (68, 87)] as [(UInt16?, Int)] {
      if let mtu { bench.host.update { $0.setMTU(mtu) } }
      let before = try bench.rings[0].publishedUsedIndex
      port.waiting = [larger - 1, larger].map { ScriptedPort.Packet(frame: frame(byteCount: $0)) }
      bench.host.wake()
      #expect(try bench.rings[0].publishedUsedIndex == before + 1)
    }
    #expect(bench.host.device.counters.drops == [.tooLong: 3])
    #expect(bench.host.readConfig(at: 10, byteCount: 2) == [68, 0])
  }

  @Test("what was fetched waits while all queues are stopped, for the same driver and for no other")
  func stopped() throws {
    let port = ScriptedPort()
    var bench = try NetBench.card(port)
    try bench.startWithoutStatus()
    port.waiting = (0..<3).map { _ in ScriptedPort.Packet(frame: frame()) }
    bench.host.wake()
    #expect(port.waiting.isEmpty)
    for queue in bench.rings.indices { _ = try bench.host.stopQueue(queue) }
    #expect(bench.host.device.counters.drops == [:])
    try bench.offer(2, of: 2048)
    for queue in bench.rings.indices {
      try bench.host.startQueue(queue, bench.rings[queue].configuration(nextAvailable: 0))
    }
    bench.host.kick(0)
    #expect(try bench.rings[0].publishedUsedIndex == 2)
    bench.host.reset()
    #expect(bench.host.device.counters.drops == [.noReceiver: 1])
  }
}
