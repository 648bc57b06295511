import LinuxIO
import Support
import Testing

@testable import VirtioNet

@Suite("Faulty port") struct FaultyPortTests {
  private let clock = StandingClock()

  private func frames(_ count: Int) -> [[UInt8]] {
    (0..<UInt32(count)).map { BenchFrame.bytes(to: 1, from: 2, $0) }
  }

  private func port(
    _ bench: BenchPort, seed: UInt64 = 1, packetCount: Int = 1024, outgoing: PacketFaults.Share = .init(),
    incoming: PacketFaults.Share = .init()
  ) throws -> FaultyPort {
    var faults = PacketFaults()
    faults.outgoing = outgoing
    faults.incoming = incoming
    return try FaultyPort(bench, faults, seed: seed, packetCount: packetCount) { [clock] in clock.now }
  }

  private func share(_ change: (inout PacketFaults.Share) -> Void) -> PacketFaults.Share {
    var share = PacketFaults.Share()
    change(&share)
    return share
  }

  @Test("packets get lost as often as is said, the same ones for the same seed, others for another")
  func loss() throws {
    func survivors(seed: UInt64) throws -> [[UInt8]] {
      let bench = try BenchPort()
      let port = try port(bench, seed: seed, outgoing: share { $0.loss = 0.25 })
      port.sendAll(frames(4000))
      #expect(port.counters.drops == [.injected: UInt64(4000 - bench.taken.count)])
      return bench.taken
    }
    let first = try survivors(seed: 1)
    #expect((2850...3150).contains(first.count), "of 4000 a quarter gets lost; five standard deviations are 137")
    #expect(try survivors(seed: 1) == first)
    #expect(try survivors(seed: 2) != first)
  }

  @Test("what happens to packets does not depend on how they are batched")
  func batching() throws {
    let all = share {
      $0.loss = 0.1
      $0.duplication = 0.1
      $0.corruption = 0.1
      $0.reordering = 0.1
    }
    let (one, many) = (try BenchPort(), try BenchPort())
    let (onePort, manyPort) = (try port(one, outgoing: all), try port(many, outgoing: all))
    manyPort.sendAll(frames(1000))
    for frame in frames(1000) { onePort.sendAll([frame]) }
    #expect(one.taken == many.taken)
  }

  @Test("a packet that comes twice comes twice in a row")
  func duplication() throws {
    let bench = try BenchPort()
    let port = try port(bench, outgoing: share { $0.duplication = 1 })
    port.sendAll(frames(100))
    #expect(bench.taken == frames(100).flatMap { [$0, $0] })
  }

  @Test("one bit of a frame is changed")
  func corruption() throws {
    let bench = try BenchPort()
    let port = try port(bench, outgoing: share { $0.corruption = 1 })
    port.sendAll(frames(100))
    #expect(bench.taken.count == 100)
    for (damaged, frame) in zip(bench.taken, frames(100)) {
      #expect(zip(damaged, frame).reduce(0) { $0 + ($1.0 ^ $1.1).nonzeroBitCount } == 1)
    }
  }

  @Test("a card whose batch has room for one of the largest gets something, and loses nothing", arguments: 1...3)
  func smallRoom(left: Int) throws {
    let bench = try BenchPort()
    let port = try port(bench, incoming: share { $0.duplication = 1 })
    bench.waiting = frames(10)
    var batch = PacketBatch()
    for _ in 0..<PacketBatch.largestCount - left { batch.append(BenchFrame.bytes(to: 1, from: 3)[...]) }
    port.receive(into: &batch)
    #expect(batch.count == PacketBatch.largestCount)
    let first = (0..<left).map { Array(batch.bytes[batch.frame(PacketBatch.largestCount - left + $0)]) }
    #expect(first + port.receiveAll() == frames(10).flatMap { [$0, $0] })
    #expect(port.counters.drops.isEmpty)
  }

  @Test("a packet is overtaken by the next, and follows in the end though none comes")
  func reordering() throws {
    let bench = try BenchPort()
    let port = try port(bench, outgoing: share { $0.reordering = 1 })
    port.sendAll(frames(5))
    #expect(bench.taken.map(BenchFrame.number) == [1, 0, 3, 2])
    clock.advance(.milliseconds(10))
    _ = port.receiveAll()
    #expect(bench.taken.map(BenchFrame.number) == [1, 0, 3, 2, 4])
  }

  @Test("late packets come when it is time, in order, both ways")
  func delay() throws {
    let bench = try BenchPort()
    let late = share {
      $0.delay = 1
      $0.delayLength = .milliseconds(50)
    }
    let port = try port(bench, outgoing: late, incoming: late)
    bench.waiting = frames(100)
    port.sendAll(frames(100))
    #expect(port.receiveAll().isEmpty)
    clock.advance(.milliseconds(49))
    #expect(port.receiveAll().isEmpty && bench.taken.isEmpty)
    clock.advance(.milliseconds(1))
    #expect(port.receiveAll() == frames(100))
    #expect(bench.taken == frames(100))
  }

  @Test("no more packets are late than there is room for")
  func bound() throws {
    let bench = try BenchPort()
    let port = try port(bench, packetCount: 10, outgoing: share { $0.delay = 1 })
    port.sendAll(frames(100))
    #expect(port.counters.drops == [.queueFull: 90])
    clock.advance(.seconds(1))
    port.sendAll([])
    #expect(bench.taken == frames(10))
  }

  @Test("a change of the faults holds from the next packet on, and late packets are not lost")
  func change() throws {
    let bench = try BenchPort()
    let port = try port(bench, outgoing: share { $0.delay = 1 })
    port.sendAll(frames(3))
    port.control.settings = PacketFaults()
    port.sendAll([BenchFrame.bytes(to: 1, from: 2, 9)])
    #expect(bench.taken.map(BenchFrame.number) == [9])
    clock.advance(.milliseconds(10))
    _ = port.receiveAll()
    #expect(bench.taken.map(BenchFrame.number) == [9, 0, 1, 2])
  }

  @Test("that all of it gets lost does not hide what comes after, and keeps nobody busy for ever")
  func loseAll() throws {
    let bench = try BenchPort()
    let port = try port(bench, incoming: share { $0.loss = 1 })
    let loop = try EventLoop()
    try loop.watch(try #require(port.descriptor), for: [.readable, .writable, .onChange]) {}
    while try loop.runOnce(within: .zero) > 0 {}
    bench.waiting = frames(64 * 20)
    #expect(port.receiveAll().isEmpty)
    #expect(bench.waiting.count == 64 * 4)
    #expect(try loop.runOnce(within: patience) == 1, "a sign to go on")
    #expect(port.receiveAll().isEmpty && bench.waiting.isEmpty)
  }

  @Test("the descriptor gives a sign when a late packet is due")
  func sign() throws {
    let bench = try BenchPort()
    var faults = PacketFaults()
    faults.outgoing.delay = 1
    faults.outgoing.delayLength = .milliseconds(2)
    let port = try FaultyPort(bench, faults)
    let loop = try EventLoop()
    try loop.watch(try #require(port.descriptor), for: [.readable, .writable, .onChange]) {}
    while try loop.runOnce(within: .zero) > 0 {}
    for count in 1...3 {
      port.sendAll(frames(1))
      #expect(try loop.runOnce(within: patience) == 1)
      _ = port.receiveAll()
      #expect(bench.taken.count == count)
    }
  }

  @Test("what the port behind has no room for waits and is not decided on again")
  func noRoom() throws {
    let bench = try BenchPort()
    bench.room = 10
    let port = try port(bench, outgoing: share { $0.duplication = 1 })
    #expect(port.sendAll(frames(64)) > 0)
    bench.room = .max
    _ = port.receiveAll()
    #expect(bench.taken == Array(frames(64).flatMap { [$0, $0] }.prefix(bench.taken.count)))
    #expect(bench.taken.count > 10)
  }
}
