import Balloon
import GuestRAM
import Support
import Testing
import VirtioCore

@testable import Recording

/// A clock that a test sets.
private final class TestClock {
  var now: UInt64 = 1 << 40
}

/// A driver of a recorded balloon that gives pages up, takes them back, answers for statistics and reports free pages, as
/// a seed decides.
private final class BalloonDriver {
  typealias Device = RecordedDevice<BalloonDevice<RecordedReclaimer<MemoryReclaimer>>>

  private var bench: DeviceBench<Device>
  private let clock = TestClock()
  private var random: SeededGenerator

  init(_ random: SeededGenerator, to tape: Tape, _ features: Features) throws {
    let clock = clock
    bench = try DeviceBench(
      Device(BalloonOptions(), reclaimer: MemoryReclaimer(), to: tape.sink) { clock.now }, ringSize: 16)
    self.random = random
    try bench.start(bench.host.offeredFeatures.intersection(features).union([.version1]))
  }

  func finish() {
    bench.host.update { $0.recorder?.finish() }
  }

  func act() throws {
    clock.now += UInt64.random(in: 0..<2_000_000, using: &random)
    switch Int.random(in: 0..<10, using: &random) {
    case 0:
      bench.host.update { [count = random.next() & 0xFF] in $0.setTarget(BalloonTarget(pageCount: UInt32(count))) }
    case 1: bench.host.update { $0.requestStatistics() }
    case 2: bench.host.update { $0.pollStatistics(every: 1_500_000) }
    case 3, 4: bench.host.wake()
    case 5: try bench.host.writeConfig([UInt8.random(in: 0...255, using: &random)], at: 4)
    case 6: try offer([.readable(try place(statistics()), 30)], to: 2)
    case 7: try offer([.writable(page(), 4096), .writable(page(), 8192)], to: 4)
    default: try offer([.readable(try place(frames()), 16)], to: Int.random(in: 0...1, using: &random))
    }
    for queue in bench.rings.indices where !bench.host.isBroken {
      _ = try bench.rings[queue].takeUsedHeads(bench.host.features)
    }
  }

  private func offer(_ buffers: [RingFixture.Buffer], to queue: Int) throws {
    try bench.rings[queue].add(buffers)
    try bench.rings[queue].publish()
    bench.host.kick(queue)
  }

  /// A page of the heap's second half, which nothing else uses.
  private func page() -> UInt64 {
    let pages = DeviceBench<Device>.heapByteCount / 4096
    return bench.heap + 4096 * UInt64.random(in: pages / 2..<pages - 2, using: &random)
  }

  private func frames() -> [UInt8] {
    (0..<4).flatMap { _ in
      let frame = UInt32(page() / 4096)
      return (0..<4).map { UInt8(truncatingIfNeeded: frame >> (8 * $0)) }
    }
  }

  private func statistics() -> [UInt8] {
    (0..<3).flatMap { tag in [UInt8(tag), 0] + (0..<8).map { _ in UInt8.random(in: 0...255, using: &random) } }
  }

  private func place(_ bytes: [UInt8]) throws -> UInt64 {
    let place = bench.heap + 64 * UInt64.random(in: 0..<512, using: &random)
    try bench.memory.write(bytes: bytes, at: GuestAddress(place))
    return place
  }
}

@Suite("Recordings of balloons") struct BalloonRecordingTests {
  /// What a driver did, recorded.
  static func recording(
    _ random: SeededGenerator, actCount: Int, _ features: Features = Features(low: 0x3F)
  ) throws -> [UInt8] {
    let tape = Tape()
    let driver = try BalloonDriver(random, to: tape, features)
    for _ in 0..<actCount { try driver.act() }
    driver.finish()
    #expect(tape.failures == [])
    return tape.bytes
  }

  @Test(
    "what a driver did to a balloon, and its clock, give the same outputs again",
    arguments: [Features(low: 0x3F), Features(low: 0x3E), Features(low: 0x3F).union([.eventIndex, .inOrder])])
  func replay(_ features: Features) throws {
    let random = SeededGenerator(for: "a recorded balloon")
    let recording = try Recording(try Self.recording(random, actCount: 300, features))
    let result = try recording.replay()
    #expect(result.difference == nil)
    #expect(result.stepCount > 150)
    let acts = try (0..<recording.stepCount).flatMap { try recording.outcome(of: $0).exchanges.map(\.act.kind) }
    #expect(Set(acts).isSuperset(of: [.time, .release, .takeBack]))
  }
}
