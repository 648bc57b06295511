import DeviceState
import Support
import Testing
import VirtioCore
import VirtioNet

@Suite("Net: what a card goes on from")
struct NetStateTests {
  private func bench(_ port: ScriptedPort, _ features: Features) throws -> NetBench {
    var bench = try NetBench.card(port)
    try bench.start(features)
    return bench
  }

  @Test("5.1.6.5.3: a state without VLANs is refused where they are filtered, and the reverse")
  func vlans() throws {
    let plain: Features = [.version1, .netControlQueue]
    let filtering = plain.union([.netControlVLAN])
    for (from, to) in [(plain, filtering), (filtering, plain)] {
      let state = try bench(ScriptedPort(), from).host.device.state
      var other = try bench(ScriptedPort(), to)
      #expect(throws: StateError.self) { try other.host.update { try $0.adopt(state) } }
    }
  }

  @Test("5.1.6.5.4: a card that goes on elsewhere announces its guest as soon as its queues run")
  func announces() throws {
    let port = ScriptedPort()
    var bench = try NetBench.card(port)
    let state = try self.bench(ScriptedPort(), [.version1]).host.device.state
    try bench.host.attach(bench.memory)
    try bench.host.acceptFeatures([.version1])
    try bench.host.adopt(model: state)
    #expect(port.sent.isEmpty)
    try bench.host.startQueue(0, bench.rings[0].configuration())
    #expect(port.sent.count == 1)
  }

  @Test("5.1.6.5.4: a card that goes on elsewhere announces its guest once it is resumed, and not before")
  func announcesOnceResumed() throws {
    let port = ScriptedPort()
    var bench = try self.bench(ScriptedPort(), [.version1])
    bench.host.pause()
    var snapshot = try bench.save()
    var arrived = try NetBench.card(port)
    try arrived.host.attach(bench.memory)
    try arrived.host.restore(from: &snapshot)
    arrived.host.wake()
    #expect(port.sent.isEmpty, "it may still be called off")
    arrived.host.resume()
    #expect(port.sent.count == 1)
  }

  @Test("a card that goes on elsewhere drops what came before its guest did: what went to all, the guest has had")
  func dropsWhatCameBefore() throws {
    let port = ScriptedPort()
    var bench = try self.bench(ScriptedPort(), [.version1])
    try bench.offer(4, of: 256)
    bench.host.pause()
    var snapshot = try bench.save()
    var arrived = try NetBench.card(port)
    try arrived.host.attach(bench.memory)
    try arrived.host.restore(from: &snapshot)
    for _ in 0..<100 { port.waiting.append(ScriptedPort.Packet(frame: frame())) }
    arrived.host.resume()
    #expect(arrived.host.device.counters.drops[.noReceiver] == 100)
    port.waiting.append(ScriptedPort.Packet(frame: frame()))
    arrived.host.wake()
    #expect(arrived.host.device.counters.receivedPackets == 1)
  }
}
