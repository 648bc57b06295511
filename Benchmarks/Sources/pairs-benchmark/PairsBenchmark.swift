import LinuxIO
import VirtioNet

/// Packets from a driver through a card to a TAP device that nobody listens on: what pairs of queues and threads for their
/// ports do for it. Run it where it may make TAP devices: `unshare --net --map-root-user`.
@main
struct PairsBenchmark {
  static let length = Duration.milliseconds(250)
  static let rounds = 10

  static func main() throws {
    let width = Processors.availableCount
    print("\(width) processors; millions of packets a second, best of \(rounds)\n")
    print("pairs  frame   nowhere  TAP, one thread  TAP, threads")
    for pairCount in [1, 2] {
      for frameByteCount in [60, 1514] {
        var best = (sink: 0.0, alone: 0.0, threads: 0.0)
        for _ in 0..<rounds {
          best.sink = max(best.sink, try rate(frameByteCount, [SinkPort](count: pairCount) { SinkPort() }))
          best.alone = max(best.alone, try rate(frameByteCount, TapPort.open(name: "vk%d", queueCount: pairCount)))
          best.threads = max(
            best.threads, try rate(frameByteCount, TapPort.openOnThreads(name: "vk%d", queueCount: pairCount)))
        }
        print(
          pad("\(pairCount)", 5), pad("\(frameByteCount)", 6), pad(best.sink, 9), pad(best.alone, 16),
          pad(best.threads, 13))
      }
    }
  }

  private static func rate(_ frameByteCount: Int, _ ports: [any PacketPort]) throws -> Double {
    let bench = try PairsBench(ports, frameByteCount: frameByteCount)
    // The kernel has the interface's first packets to itself.
    try bench.run(until: MonotonicClock.moment(after: .milliseconds(50)))
    let (count, start) = (bench.sentCount, MonotonicClock.now)
    try bench.run(until: MonotonicClock.moment(after: length))
    return Double(bench.sentCount - count) * 1000 / Double(MonotonicClock.now - start)
  }

  private static func pad(_ value: Double, _ width: Int) -> String {
    let hundredths = Int((value * 100).rounded())
    let fraction = hundredths % 100
    return pad("\(hundredths / 100).\(fraction < 10 ? "0" : "")\(fraction)", width)
  }

  private static func pad(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(0, width - text.count)) + text
  }
}

extension Array {
  fileprivate init(count: Int, _ make: () -> Element) {
    self = (0..<count).map { _ in make() }
  }
}
