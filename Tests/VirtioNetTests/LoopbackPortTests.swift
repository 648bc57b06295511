import LinuxIO
import Testing

@testable import VirtioNet

@Suite("Loopback port") struct LoopbackPortTests {
  private let frames = (0..<20).map { BenchFrame.bytes(to: 0x5254_0000_000B, from: 0x5254_0000_000A, $0) }

  @Test("packets come back in order, as they were")
  func back() throws {
    let port = try LoopbackPort()
    port.sendAll(frames)
    #expect(port.receiveAll() == frames)
    #expect(port.counters.sent == 20 && port.counters.received == 20)
  }

  @Test("packets come back to their sender's address, if that is wanted")
  func swapped() throws {
    let port = try LoopbackPort(swapsAddresses: true)
    port.sendAll([frames[3], [1, 2, 3]])
    #expect(port.receiveAll() == [BenchFrame.bytes(to: 0x5254_0000_000A, from: 0x5254_0000_000B, 3)])
    #expect(port.counters.drops == [.tooShort: 1])
  }

  @Test("what is beyond its bound is dropped")
  func bound() throws {
    let port = try LoopbackPort(packetCount: 8)
    for _ in 0..<3 {
      port.sendAll(frames)
      #expect(port.receiveAll() == Array(frames.prefix(8)))
    }
    #expect(port.counters.drops == [.queueFull: 36])
  }

  @Test("the descriptor gives a sign each time that there is something again")
  func sign() throws {
    let port = try LoopbackPort()
    let loop = try EventLoop()
    try loop.watch(try #require(port.descriptor), for: [.readable, .onChange]) {}
    for _ in 0..<3 {
      port.sendAll(frames)
      #expect(try loop.runOnce(within: .zero) == 1)
      #expect(port.receiveAll().count == 20)
    }
  }
}
