import LinuxIO
import Testing
import VirtioNet

/// Has packets for a very long time.
private final class TirelessPort: PacketPort {
  let name = "tireless"
  var takenOffloads: Offloads { .all }
  var descriptor: Int32? { nil }
  var counters = PortCounters()
  var failure: PortError? { nil }
  var left = 50_000

  func setGivenOffloads(_ offloads: Offloads) {}
  func send(_ batch: inout PacketBatch) { batch.removeAll() }
  func receive(into batch: inout PacketBatch) {
    while left > 0, batch.append(SourcePort.smallFrame[...]) { left -= 1 }
  }
}

@Suite("Ports: two that are plugged into each other")
struct PortJointTests {
  @Test("a port that always has packets does not keep the thread, and its joint gives the sign to go on")
  func turns() throws {
    let source = TirelessPort()
    let sink = SinkPort()
    let joint = try PortJoint(source, sink)
    joint.carry()
    #expect(source.left > 0)
    let loop = try EventLoop()
    for descriptor in joint.descriptors {
      try loop.watch(descriptor, for: [.readable, .writable, .onChange]) { joint.carry() }
    }
    var rounds = 0
    while source.left > 0, rounds < 10_000 {
      _ = try loop.runOnce(within: .seconds(1))
      rounds += 1
    }
    #expect(sink.counters.sent == 50_000)
  }

  @Test("a port that carries nothing any more is told of, once for each reason, whichever of the two it is")
  func failures() throws {
    let (one, other) = (ScriptedPort(), ScriptedPort())
    var told: [PortError] = []
    let joint = try PortJoint(one, other) { told.append($0) }
    joint.carry()
    #expect(told.isEmpty && joint.failure == nil)
    other.failure = .disconnected("wire")
    joint.carry()
    joint.carry()
    #expect(told == [.disconnected("wire")] && joint.failure == .disconnected("wire"))
    other.failure = nil
    joint.carry()
    one.failure = .disconnected("wire")
    joint.carry()
    #expect(told == [.disconnected("wire"), .disconnected("wire")], "it had come back in between")
  }

  @Test("a packet whose header is wrong is dropped and counted, either way")
  func drops() throws {
    var header = NetHeader()
    header.flags = .needsChecksum
    header.checksumStart = 60
    header.checksumOffset = 60
    let (one, other) = (ScriptedPort(), ScriptedPort())
    for port in [one, other] { port.waiting = [.init(header: header, frame: frame()), .init(frame: frame())] }
    let joint = try PortJoint(one, other)
    joint.carry()
    #expect(one.sent.count == 1 && other.sent.count == 1)
    #expect(joint.drops == [.badHeader: 2])
  }
}
