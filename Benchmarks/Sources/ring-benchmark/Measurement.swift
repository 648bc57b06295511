import Allocations
import LinuxIO

/// What was measured of one contender.
struct Measurement {
  let name: String
  /// The best of all repetitions, per chain.
  var nanoseconds = Double.infinity
  /// Requests for memory in all repetitions, and the chains that they were for.
  var allocationCount = 0
  var chainCount = 0
}

enum Measuring {
  /// Measures all contenders in turns, so that what slows the machine down slows all of them, and keeps the best of each.
  static func run(_ contenders: [Contender], repetitions: Int, batches: Int) throws -> [Measurement] {
    var measurements = contenders.map { Measurement(name: $0.name) }
    for contender in contenders {
      try contender.serve(batches)
    }
    for _ in 0..<repetitions {
      for (index, contender) in contenders.enumerated() {
        let allocations = Allocations.count
        let start = MonotonicClock.now
        try contender.serve(batches)
        let elapsed = MonotonicClock.now - start
        let chains = batches * Int(BenchmarkRing.batch)
        measurements[index].allocationCount += Allocations.count - allocations
        measurements[index].chainCount += chains
        measurements[index].nanoseconds = min(measurements[index].nanoseconds, Double(elapsed) / Double(chains))
      }
    }
    return measurements
  }
}
