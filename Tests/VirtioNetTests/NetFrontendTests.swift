import GuestRAM
import Support
import Testing
import VirtioCore
import VirtioNet
import Virtqueue

/// QEMU and DPDK have the control queue to themselves, and say the rest with the rings that they enable.
@Suite("Net: front-ends that keep the control queue")
struct NetFrontendTests {
  /// A UDP datagram from one of many ports.
  private func datagram(fromPort port: UInt16) -> [UInt8] {
    let addresses: [UInt8] = [10, 0, 0, 1, 10, 0, 0, 2]
    let header: [UInt8] = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0] + addresses
    let ports: [UInt8] = [UInt8(port >> 8), UInt8(port & 0xFF), 0, 53, 0, 8, 0, 0]
    return frame(type: 0x0800, byteCount: 14) + header + ports
  }

  @Test("5.1.6.5.5: without a control queue, packets go to the pairs whose queues are let run")
  func pairsInUse() throws {
    let port = ScriptedPort()
    var bench = try NetBench.card(port, pairs: 2)
    try bench.startWithoutStatus([.version1, .netMultiqueue])
    for queue in [0, 2] { try bench.offer(32, of: 2048, queue: queue) }
    port.waiting = (1...32).map { ScriptedPort.Packet(frame: datagram(fromPort: $0)) }
    bench.host.wake()
    let counts = try [0, 2].map { try Int(bench.rings[$0].publishedUsedIndex) }
    #expect(counts.reduce(0, +) == 32 && counts.allSatisfy { $0 > 0 })

    try bench.host.setEnabled(2, false)
    port.waiting = [
      ScriptedPort.Packet(frame: datagram(fromPort: 1)), ScriptedPort.Packet(frame: datagram(fromPort: 2)),
    ]
    bench.host.wake()
    #expect(try Int(bench.rings[0].publishedUsedIndex) == counts[0] + 2)
    #expect(bench.host.device.counters.drops == [:])
  }

  @Test("what is sent on a transmit queue that is disabled goes nowhere, and no receive queue loses its buffers")
  func disabled() throws {
    let port = ScriptedPort()
    var bench = try NetBench.card(port, pairs: 2)
    try bench.start(queues: [])
    for queue in 0..<4 {
      try bench.rings[queue].send([.readable(bench.heap, 64)])
      let next = try bench.host.discardBuffers(ofQueue: queue, bench.rings[queue].configuration())
      #expect(next == (queue % 2 == 1 ? 1 : 0))
    }
    #expect(port.sent.isEmpty)
  }
}
