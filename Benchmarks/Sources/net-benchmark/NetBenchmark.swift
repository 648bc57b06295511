import Allocations
import Foundation
import LinuxIO
import VirtioNet

/// What a packet costs a card behind its host, all on one thread: nanoseconds, and requests for memory, of which there must
/// be none.
@main
enum NetBenchmark {
  private static let repetitions = 40
  private static let batches = 4000

  static func main() throws {
    guard Allocations.isCounting else { fail("allocations cannot be counted here") }
    print("traffic            ns/packet  allocs/packet")
    let sink = try CardBench(SinkPort())
    try measure("driver to device", { try sink.counters().transmittedPackets }) { try sink.transmit() }
    let source = try CardBench(SourcePort())
    try measure("device to driver", { try source.counters().receivedPackets }) { try source.receive() }
    let loopback = try CardBench(LoopbackPort())
    try measure("and back", { try loopback.counters().receivedPackets }) {
      try loopback.receive()
      try loopback.transmit()
      loopback.wake()
    }
  }

  /// Tells of some traffic, and ends the program when it needs memory or packets are missing.
  private static func measure(
    _ name: String, _ carried: () throws -> UInt64, _ carry: () throws -> Void
  ) throws {
    for _ in 0..<batches { try carry() }
    let packets = batches * Int(CardBench.batch)
    var best = UInt64.max
    let before = try carried()
    let allocations = Allocations.count
    for _ in 0..<repetitions {
      let start = MonotonicClock.now
      for _ in 0..<batches { try carry() }
      best = min(best, MonotonicClock.now - start)
    }
    let allocationCount = Allocations.count - allocations
    let count = Int(try carried() - before)
    print(
      name.padding(toLength: 18, withPad: " ", startingAt: 0),
      String(format: "%9.1f %14.3f", Double(best) / Double(packets), Double(allocationCount) / Double(count)))
    guard count == packets * repetitions else { fail("\(name): \(count) of \(packets * repetitions) packets arrived") }
    guard allocationCount == 0 else { fail("\(name): \(allocationCount) allocations for \(count) packets") }
  }

  private static func fail(_ reason: String) -> Never {
    FileHandle.standardError.write(Data("net-benchmark: \(reason)\n".utf8))
    exit(1)
  }
}
