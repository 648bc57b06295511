import GuestRAM
import Support
import Testing
import VirtioCore
import VirtioNet
import Virtqueue

/// Ports tell once that something has changed: whatever the card is at then must not forget it.
@Suite("Net: news of ports that comes at any time")
struct NetNewsTests {
  @Test("packets that come while the device is paused are delivered when it goes on")
  func paused() throws {
    let port = ScriptedPort()
    var bench = try NetBench.card(port)
    try bench.start()
    try bench.offer(2, of: 2048)
    bench.host.wake()
    bench.host.pause()
    port.waiting = [ScriptedPort.Packet(frame: frame())]
    bench.host.wake()
    bench.host.resume()
    #expect(try bench.rings[0].takeUsed() != nil)
  }

  @Test("5.1.6.5.5: all packets of a port are delivered whose own pair of queues the driver does not use")
  func otherPair() throws {
    let ports = [ScriptedPort(), ScriptedPort()]
    var options = NetOptions(address: cardAddress)
    options.pairCount = 2
    options.queueSize = 256
    var bench = try NetBench(NetDevice(options, ports: ports))
    try bench.start(queues: [0, 1])
    try bench.offer(200, of: 128)
    ports[1].waiting = (0..<200).map { _ in ScriptedPort.Packet(frame: frame()) }
    bench.host.wake()
    #expect(try bench.rings[0].takeAllUsed().count == 200)
  }

  @Test("a port that has kept a part of what it took can go on while the driver has no buffers")
  func keptByPort() throws {
    let port = ScriptedPort()
    var bench = try NetBench.card(port)
    try bench.start()
    port.waiting = [ScriptedPort.Packet(frame: frame())]
    bench.host.wake()
    let count = port.sendCount
    bench.host.wake()
    #expect(port.sendCount == count + 1)
  }

  @Test("2.4: the driver is told of a link that goes down while it sends")
  func failsInKick() throws {
    let port = ScriptedPort()
    var bench = try NetBench.card(port)
    try bench.start([.version1, .netStatus])
    _ = bench.notifications.take()
    port.failure = .disconnected("scripted")
    try bench.transmit(plainHeader + frame())
    #expect(bench.notifications.take().contains(.configuration))
  }

  @Test("packets that a port had no room for do not go out through a link that is down")
  func linkDownAtTheEnd() throws {
    let port = ScriptedPort()
    port.room = 0
    var bench = try NetBench.card(port)
    try bench.start()
    try bench.transmit(plainHeader + frame())
    port.room = .max
    bench.host.update { $0.setLink(isUp: false) }
    bench.host.reset()
    #expect(port.sent.isEmpty)
    #expect(bench.host.device.counters.drops == [.linkDown: 1])
  }

  @Test("packets beside one that breaks the device do not go out unchecked")
  func brokenBesideOthers() throws {
    let port = ScriptedPort()
    var bench = try NetBench.card(port)
    try bench.start()
    var bad = plainHeader
    bad[1] = 77
    try bench.memory.write(bytes: bad + frame(), at: GuestAddress(bench.heap))
    try bench.rings[1].send([.readable(bench.heap, UInt32(12 + 64))])
    try bench.rings[1].send([.readable(1 << 50, 64)])
    bench.host.kick(1)
    let isBroken = bench.host.isBroken
    #expect(isBroken)
    bench.host.reset()
    #expect(port.sent.isEmpty)
  }

  @Test("a driver whose packets take long to be cut does not keep the thread")
  func longCuts() throws {
    let port = ScriptedPort()
    port.takenOffloads = []
    var bench = try NetBench.card(port)
    try bench.start([.version1, .netChecksum, .netHostTSO4])
    let packet = TestPackets.largeTCP
    try bench.memory.write(bytes: packet, at: GuestAddress(bench.heap))
    for _ in 0..<30 { try bench.rings[1].send([.readable(bench.heap, UInt32(packet.count))]) }
    var count = 0
    var isMore = bench.host.kick(1)
    #expect(isMore)
    #expect(port.sent.count < 30 * TestPackets.segmentCount)
    while isMore, count < 100 {
      isMore = bench.host.kick(1)
      count += 1
    }
    #expect(port.sent.count == 30 * TestPackets.segmentCount)
  }
}

private enum TestPackets {
  static let segmentCount = 1000

  /// A header, and a TCP packet to be cut into very many segments.
  static var largeTCP: [UInt8] {
    let payloadByteCount = segmentCount * 60
    let total = 40 + payloadByteCount
    let segment: [UInt8] = [10, 0, 0, 1, 10, 0, 0, 2, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0]
    return [1, 1, 54, 0, 60, 0, 34, 0, 16, 0, 0, 0] + frame(type: 0x0800, byteCount: 14)
      + [0x45, 0, UInt8(total >> 8), UInt8(total & 0xFF), 0, 0, 0, 0, 64, 6, 0, 0] + segment
      + [UInt8](repeating: 7, count: payloadByteCount)
  }
}
