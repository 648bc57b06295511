import GuestRAM
import Support
import Testing
import VirtioCore
import VirtioNet
import Virtqueue

/// A driver fills its receive queues up all the time, and each kick for that would cost it an exit and the card a wake-up.
@Suite("Net: kicks of receive queues are asked for while packets wait, and not else")
struct NetReceiveKickTests {
  private static func bench(
    _ port: ScriptedPort, eventIndex: Bool, pairs: Int = 1, offering count: Int = 2
  ) throws -> NetBench {
    var bench = try NetBench.card(port, pairs: pairs)
    try bench.start(features(eventIndex))
    try bench.offer(count, of: 2048)
    bench.host.kick(0)
    return bench
  }

  private static func features(_ eventIndex: Bool) -> Features { eventIndex ? [.version1, .eventIndex] : [.version1] }

  /// Whether a kick is wanted for another buffer, which is made available.
  private func wantsKick(_ bench: inout NetBench, queue: Int = 0, eventIndex: Bool) throws -> Bool {
    let old = bench.rings[queue].availableIndex
    try bench.offer(1, of: 2048, queue: queue)
    return try bench.rings[queue].wantsKick(since: old, eventIndex: eventIndex)
  }

  private func bring(_ count: Int, to bench: inout NetBench, by port: ScriptedPort) {
    port.waiting += (0..<count).map { _ in ScriptedPort.Packet(frame: frame()) }
    bench.host.wake()
  }

  @Test("2.7.10: buffers are made available without kicks, and used when packets come", arguments: [false, true])
  func quiet(eventIndex: Bool) throws {
    let port = ScriptedPort()
    var bench = try Self.bench(port, eventIndex: eventIndex)
    for _ in 0..<200 {
      #expect(try !wantsKick(&bench, eventIndex: eventIndex))
      bring(1, to: &bench, by: port)
      #expect(try bench.rings[0].takeUsed() != nil)
    }
  }

  @Test("2.7.10: a packet without buffers asks for a kick, which brings it in, and no more", arguments: [false, true])
  func lacking(eventIndex: Bool) throws {
    let port = ScriptedPort()
    var bench = try Self.bench(port, eventIndex: eventIndex)
    bring(3, to: &bench, by: port)
    #expect(try bench.rings[0].takeAllUsed().count == 2)
    #expect(try wantsKick(&bench, eventIndex: eventIndex))
    bench.host.kick(0)
    #expect(try bench.rings[0].takeAllUsed().count == 1)
    #expect(try !wantsKick(&bench, eventIndex: eventIndex))
  }

  @Test("2.7.10: buffers that come before a kick is asked for are used though nobody kicked", arguments: [false, true])
  func between(eventIndex: Bool) throws {
    let port = ScriptedPort()
    var driver: RingFixture?
    var options = NetOptions(address: cardAddress)
    options.queueSize = 64
    var host = DeviceHost(NetDevice(options, ports: [port])) { _ in
      _ = try? driver?.send([.writable(0x30000, 2048)])
      driver = nil
    }
    var bench = try NetBench.card(port)
    try host.attach(bench.memory)
    try host.acceptFeatures(Self.features(eventIndex))
    try host.startQueue(0, bench.rings[0].configuration())
    try bench.offer(1, of: 2048)
    driver = bench.rings[0]
    port.waiting = [ScriptedPort.Packet(frame: frame()), ScriptedPort.Packet(frame: frame())]
    // The driver is told of the first packet while the second waits.
    host.wake()
    #expect(driver == nil)
    #expect(try bench.rings[0].publishedUsedIndex == 2)
  }

  @Test("packets that wait may go to any pair: each receive queue asks for kicks", arguments: [false, true])
  func otherQueues(eventIndex: Bool) throws {
    let port = ScriptedPort()
    var bench = try Self.bench(port, eventIndex: eventIndex, pairs: 2, offering: 1)
    try bench.offer(1, of: 2048, queue: 2)
    bench.host.kick(2)
    #expect(try !wantsKick(&bench, queue: 2, eventIndex: eventIndex))
    bring(2, to: &bench, by: port)
    #expect(try bench.rings[0].takeAllUsed().count == 1)
    #expect(try wantsKick(&bench, queue: 2, eventIndex: eventIndex))
    #expect(try wantsKick(&bench, eventIndex: eventIndex))
    bench.host.kick(0)
    #expect(try bench.rings[0].takeAllUsed().count == 1)
    bench.host.kick(2)
    #expect(try !wantsKick(&bench, queue: 2, eventIndex: eventIndex))
  }

  @Test("buffers alone are no work for somebody who polls", arguments: [false, true])
  func polled(eventIndex: Bool) throws {
    let port = ScriptedPort()
    var bench = try Self.bench(port, eventIndex: eventIndex, offering: 4)
    bench.host.isPolled = true
    bring(1, to: &bench, by: port)
    #expect(bench.host.poll() == false)
    try bench.offer(1, of: 2048)
    #expect(bench.host.poll() == false)
    port.waiting = (0..<5).map { _ in ScriptedPort.Packet(frame: frame()) }
    #expect(bench.host.poll() == true)
    #expect(bench.host.rest() == false)
    #expect(try bench.rings[0].publishedUsedIndex == 5)
    #expect(try wantsKick(&bench, eventIndex: eventIndex))
  }

  @Test("what has gone with the link or with the driver waits for no buffers", arguments: [false, true])
  func dropped(eventIndex: Bool) throws {
    let port = ScriptedPort()
    var bench = try Self.bench(port, eventIndex: eventIndex, offering: 0)
    bring(1, to: &bench, by: port)
    bench.host.update { $0.setLink(isUp: false) }
    bench.host.wake()
    try bench.offer(1, of: 2048)
    bench.host.kick(0)
    #expect(try bench.rings[0].takeUsed() == nil)
    #expect(try !wantsKick(&bench, eventIndex: eventIndex))
    bench.host.reset()
    let awaits = bench.host.device.awaitsBuffers(of: 0)
    #expect(!awaits)
  }

  @Test("a card that a driver is moved to asks for kicks like the one it was on", arguments: [false, true])
  func moved(eventIndex: Bool) throws {
    var bench = try Self.bench(ScriptedPort(), eventIndex: eventIndex)
    #expect(try !wantsKick(&bench, eventIndex: eventIndex))
    let port = ScriptedPort()
    var other = try bench.moved(to: port)
    #expect(try !wantsKick(&other, eventIndex: eventIndex))
    bring(5, to: &other, by: port)
    #expect(try other.rings[0].publishedUsedIndex == 4)
    #expect(try wantsKick(&other, eventIndex: eventIndex))
    other.host.kick(0)
    #expect(try other.rings[0].publishedUsedIndex == 5)
  }

  @Test("a ring that breaks while nobody asks for kicks breaks the card with the next packet")
  func broken() throws {
    let port = ScriptedPort()
    var bench = try Self.bench(port, eventIndex: true, offering: 0)
    try bench.rings[0].publish(index: 0x8000)
    // Nobody has asked for it, and nothing is looked at.
    bench.host.kick(0)
    bring(1, to: &bench, by: port)
    let isBroken = bench.host.isBroken
    #expect(isBroken)
  }
}
