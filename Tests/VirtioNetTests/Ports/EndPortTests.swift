import LinuxIO
import Testing

@testable import VirtioNet

@Suite("Sink and source") struct EndPortTests {
  @Test("a sink takes everything and gives nothing")
  func sink() {
    let port = SinkPort()
    #expect(send([frame(1), frame(2)], to: port).isEmpty)
    #expect(receive(from: port).isEmpty)
    #expect(port.counters.sent == 2)
    #expect(port.descriptor == nil && port.takenOffloads == .all)
  }

  @Test("a source fills each batch with its frame, and says from the start that it has some")
  func source() throws {
    let port = try SourcePort()
    let loop = try EventLoop()
    var changes = 0
    try loop.watch(#require(port.descriptor), for: [.readable, .onChange]) { changes += 1 }
    try loop.runOnce(within: .zero)
    #expect(changes == 1)
    var batch = PacketBatch()
    for _ in 0..<2 {
      batch.removeAll()
      port.receive(into: &batch)
      #expect(framesOf(batch) == [[UInt8]](repeating: SourcePort.smallFrame, count: PacketBatch.largestCount))
    }
    #expect(SourcePort.smallFrame.count == 64)
    #expect(port.counters.received == 128)
  }
}
