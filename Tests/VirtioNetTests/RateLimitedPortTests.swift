import LinuxIO
import Support
import Testing

@testable import VirtioNet

@Suite("Rate-limited port") struct RateLimitedPortTests {
  private let clock = StandingClock()
  private let frames = (0..<100).map { BenchFrame.bytes(to: 1, from: 2, $0) }
  private let ten = TokenBucket.Rate(perSecond: 10, burst: 5)

  private func limited(_ bench: BenchPort, _ rates: PacketRates) throws -> RateLimitedPort {
    try RateLimitedPort(bench, rates) { [clock] in clock.now }
  }

  private func batch(_ frames: some Sequence<[UInt8]>) -> PacketBatch {
    var batch = PacketBatch()
    for frame in frames { batch.append(frame[...]) }
    return batch
  }

  private func left(_ batch: borrowing PacketBatch) -> Int { batch.count }

  @Test("outgoing packets over the rate stay in the batch, and go in order as tokens come")
  func outgoing() throws {
    let bench = try BenchPort()
    let port = try limited(bench, PacketRates(outgoing: .init(packets: ten)))
    var batch = batch(frames.prefix(20))
    port.send(&batch)
    #expect(bench.taken.count == 5 && left(batch) == 15)
    port.send(&batch)
    #expect(bench.taken.count == 5, "asking costs nothing")
    for count in 1...10 {
      clock.advance(.milliseconds(100))
      port.send(&batch)
      #expect(bench.taken.count == 5 + count)
    }
    #expect(bench.taken == Array(frames.prefix(15)))
  }

  @Test("ports that share a rate have it together, each way, and a change is one for all")
  func shared() throws {
    let benches = [try BenchPort(), try BenchPort()]
    let rates = PacketRates(outgoing: .init(packets: ten), incoming: .init(packets: ten))
    let ports = try RateLimitedPort.sharing(rates, among: benches) { [clock] in clock.now }
    for bench in benches { bench.waiting = Array(frames.prefix(20)) }
    func carry() -> (sent: Int, received: Int) {
      let received = ports.map { $0.receiveAll().count }.reduce(0, +)
      for port in ports { port.sendAll(Array(frames.prefix(20))) }
      return (benches.map(\.taken.count).reduce(0, +), received)
    }
    #expect(carry() == (5, 5))
    clock.advance(.milliseconds(300))
    #expect(carry() == (8, 3))
    ports[1].control.settings = PacketRates()
    #expect(carry() == (48, 32))
  }

  @Test("bytes are limited by the frames' length")
  func bytes() throws {
    let bench = try BenchPort()
    let port = try limited(bench, PacketRates(outgoing: .init(bytes: TokenBucket.Rate(perSecond: 600))))
    var batch = batch(frames.prefix(20))
    port.send(&batch)
    #expect(bench.taken.count == 10, "a frame has 60 bytes")
    clock.advance(.milliseconds(300))
    port.send(&batch)
    #expect(bench.taken.count == 13)
  }

  @Test("what the port behind has no room for costs no token")
  func noRoom() throws {
    let bench = try BenchPort()
    bench.room = 3
    let port = try limited(bench, PacketRates(outgoing: .init(packets: ten)))
    var batch = batch(frames.prefix(20))
    for _ in 0..<4 { port.send(&batch) }
    #expect(left(batch) == 17)
    bench.room = .max
    port.send(&batch)
    #expect(bench.taken == Array(frames.prefix(5)))
  }

  @Test("incoming packets over the rate wait, but for one batch in the port behind, and come in order")
  func incoming() throws {
    let bench = try BenchPort()
    bench.waiting = frames
    let port = try limited(bench, PacketRates(incoming: .init(packets: ten)))
    #expect(port.receiveAll() == Array(frames.prefix(5)))
    #expect(bench.waiting.count == frames.count - PacketBatch.largestCount)
    clock.advance(.milliseconds(300))
    #expect(port.receiveAll() == Array(frames[5..<8]))
    port.control.settings = PacketRates()
    #expect(port.receiveAll() == Array(frames[8...]), "none is lost when the limit goes")
  }

  @Test("nothing is limited in the direction that has no limits")
  func apart() throws {
    let bench = try BenchPort()
    bench.waiting = frames
    let port = try limited(bench, PacketRates(outgoing: .init(packets: ten)))
    #expect(port.receiveAll() == frames)
  }

  @Test("a change of the limits holds for packets that wait")
  func change() throws {
    let bench = try BenchPort()
    let port = try limited(bench, PacketRates(outgoing: .init(packets: ten)))
    var batch = batch(frames.prefix(20))
    port.send(&batch)
    port.control.settings.outgoing.packets = TokenBucket.Rate(perSecond: 10, burst: 7)
    port.send(&batch)
    #expect(bench.taken.count == 12)
    port.control.settings = PacketRates()
    port.send(&batch)
    #expect(left(batch) == 0)
  }

  @Test("the descriptor gives a sign when there are tokens, for a change, and for the port behind")
  func signs() throws {
    let bench = try BenchPort()
    let port = try RateLimitedPort(bench, PacketRates(outgoing: .init(packets: .init(perSecond: 1000, burst: 1))))
    let loop = try EventLoop()
    try loop.watch(try #require(port.descriptor), for: [.readable, .writable, .onChange]) {}
    while try loop.runOnce(within: .zero) > 0 {}
    var batch = batch(frames.prefix(5))
    port.send(&batch)
    while !batch.isEmpty {
      #expect(try loop.runOnce(within: patience) == 1)
      port.send(&batch)
    }
    #expect(bench.taken.count == 5)
    #expect(try loop.runOnce(within: .zero) == 0)
    bench.sign.signal()
    #expect(try loop.runOnce(within: .zero) == 1)
    port.control.settings = PacketRates()
    #expect(try loop.runOnce(within: patience) == 1)
  }

  @Test("a packet that is larger than the burst passes, and those behind it wait for it")
  func large() throws {
    let bench = try BenchPort()
    let port = try limited(bench, PacketRates(outgoing: .init(bytes: TokenBucket.Rate(perSecond: 30, burst: 1))))
    var batch = batch(frames.prefix(2))
    port.send(&batch)
    #expect(bench.taken.count == 1)
    clock.advance(.milliseconds(1900))
    port.send(&batch)
    #expect(bench.taken.count == 1)
    clock.advance(.milliseconds(200))
    port.send(&batch)
    #expect(bench.taken.count == 2)
  }
}
