import GuestRAM
import Support
import Testing

@testable import Migration

@Suite("Migration: convergence") struct ConvergenceTests {
  @Test("what it takes to ask for writes goes from the limit, which leaves a quarter of it at the least")
  func asking() {
    for (seconds, most) in [(0.0, 100), (0.04, 60), (0.09, 25), (5, 25)] {
      var convergence = Convergence(MigrationPolicy(downtimeLimit: .milliseconds(100)))
      convergence.secondsToAsk = seconds
      var other = convergence
      let fits = UInt64(most) * 1_000_000
      #expect(convergence.next(sentByteCount: 2_000_000_000, seconds: 1, remaining: fits + 1000) == .pass(share: 1))
      #expect(other.next(sentByteCount: 2_000_000_000, seconds: 1, remaining: fits - 1000) == .stop)
    }
  }

  private func policy(_ milliseconds: Int, passes: Int = 100) -> MigrationPolicy {
    MigrationPolicy(downtimeLimit: .milliseconds(milliseconds), mostPasses: passes)
  }

  @Test("the guest is stopped as soon as what is left fits the downtime at the measured rate")
  func fits() {
    var convergence = Convergence(policy(100))
    // 2 GB/s, of which half counts after the first pass: 100 MB fit, a byte more does not.
    #expect(convergence.next(sentByteCount: 2_000_000_000, seconds: 1, remaining: 100_000_001) == .pass(share: 1))
    var other = Convergence(policy(100))
    #expect(other.next(sentByteCount: 2_000_000_000, seconds: 1, remaining: 100_000_000) == .stop)
  }

  @Test("what it takes to stop the guest, whatever is left, counts against the limit")
  func pause() {
    for (pause, step) in [(0.089, Convergence.Step.stop), (0.091, .pass(share: 1))] {
      var convergence = Convergence(policy(100))
      convergence.pauseSeconds = pause
      #expect(convergence.next(sentByteCount: 2_000_000_000, seconds: 1, remaining: 10_000_000) == step)
    }
  }

  @Test("as long as only the first pass has told the rate half of it counts, for what is left lies all over")
  func scattered() {
    var convergence = Convergence(policy(100))
    #expect(convergence.next(sentByteCount: 1_000_000_000, seconds: 1, remaining: 60_000_000) == .pass(share: 1))
    // Too short to measure.
    #expect(convergence.next(sentByteCount: 1_000_000, seconds: 0.001, remaining: 60_000_000) == .pass(share: 1))
    #expect(convergence.expectedSeconds(for: 60_000_000) == 0.12)
    #expect(convergence.failure(remaining: 60_000_000).contains("stand still 120 ms at 500 MB/s"))
    var other = convergence
    #expect(other.next(sentByteCount: 50_000_000, seconds: 0.05, remaining: 90_000_000) == .stop)
    let told = MigrationPolicy(downtimeLimit: .milliseconds(100), switchoverBytesPerSecond: 1_000_000_000)
    var given = Convergence(told)
    #expect(given.next(sentByteCount: 1_000_000_000, seconds: 1, remaining: 60_000_000) == .stop)
  }

  @Test("a rate follows the passes, the first of which counts until there is another")
  func rate() {
    var convergence = Convergence(policy(0))
    for (sent, rate) in [(900, 900), (100, 100), (300, 200), (400, 300)] {
      _ = convergence.next(sentByteCount: UInt64(sent) << 20, seconds: 1, remaining: 1 << 30)
      #expect(convergence.rate == Double(rate << 20))
    }
  }

  @Test("a pass that has sent nothing is not measured")
  func emptyPass() {
    var convergence = Convergence(policy(0))
    for (sent, rate) in [(0, 0), (900, 900), (0, 900), (100, 100), (300, 200)] {
      _ = convergence.next(sentByteCount: UInt64(sent) << 20, seconds: 1, remaining: 1 << 30)
      #expect(convergence.rate == Double(rate << 20))
    }
  }

  @Test("a pass too short to measure does not change the rate")
  func shortPass() {
    var convergence = Convergence(policy(0))
    _ = convergence.next(sentByteCount: 200 << 20, seconds: 1, remaining: 1 << 30)
    _ = convergence.next(sentByteCount: 2 << 20, seconds: 0.000_001, remaining: 1 << 30)
    #expect(convergence.rate == Double(200 << 20))
    #expect(convergence.expectedSeconds(for: 100 << 20) == 1)
  }

  @Test("passes that are each too short to measure are measured together")
  func shortPasses() {
    var convergence = Convergence(policy(10))
    // Much that was zero and little that was sent: 1 MiB/s.
    #expect(convergence.next(sentByteCount: 1 << 20, seconds: 1, remaining: 512 << 10) == .pass(share: 1))
    // In truth the connection takes 512 MiB/s.
    var step = Convergence.Step.pass(share: 1)
    for _ in 0..<20 where step != .stop {
      step = convergence.next(sentByteCount: 512 << 10, seconds: 0.001, remaining: 512 << 10)
    }
    #expect(step == .stop)
  }

  @Test("a guest of which nothing could be sent has a failure that can be told")
  func noRate() {
    var convergence = Convergence(policy(10, passes: 1))
    #expect(convergence.next(sentByteCount: 0, seconds: 1, remaining: 4096) == .fail)
    #expect(convergence.failure(remaining: 4096).contains("would stand still unknown ms at 0 MB/s"))
  }

  @Test("a downtime of less than nothing is one of nothing")
  func negativeLimit() {
    var convergence = Convergence(policy(-1))
    #expect(convergence.next(sentByteCount: 1 << 20, seconds: 1, remaining: 0) == .stop)
  }

  @Test("no more passes are made than a destination takes, whatever is allowed")
  func mostPasses() {
    var convergence = Convergence(policy(0, passes: .max))
    for _ in 1..<9999 {
      #expect(convergence.next(sentByteCount: 1 << 20, seconds: 1, remaining: 4096) == .pass(share: 1))
    }
    #expect(convergence.next(sentByteCount: 1 << 20, seconds: 1, remaining: 4096) == .fail)
  }

  @Test("nothing left means no downtime, even at no rate at all")
  func nothing() {
    var convergence = Convergence(policy(0))
    #expect(convergence.next(sentByteCount: 0, seconds: 0, remaining: 0) == .stop)
  }
}

@Suite("Migration: lists of ranges") struct RangeListTests {
  @Test("pieces and unions hold the same pages as sets of pages do", arguments: 0..<UInt64(50))
  func sets(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    let (left, right) = (generator.ranges(), generator.ranges())
    let (leftPages, rightPages) = (numbers(left), numbers(right))
    let pieces = left.pieces(resident: right)
    #expect(numbers(pieces.map(\.range)) == leftPages)
    #expect(numbers(pieces.filter(\.isResident).map(\.range)) == leftPages.filter(Set(rightPages).contains))
    #expect(numbers(left.union(right)) == Array(Set(leftPages).union(rightPages)).sorted())
  }

  private func numbers(_ ranges: [GuestRange]) -> [UInt64] {
    ranges.flatMap { (range) in
      (0..<range.byteCount / pageByteCount).map { range.start.rawValue / pageByteCount + $0 }
    }
  }
}

extension SeededGenerator {
  /// Some ranges of whole pages in rising order, some of them neighbours.
  fileprivate mutating func ranges() -> [GuestRange] {
    var (ranges, free) = ([GuestRange](), UInt64(0))
    for _ in 0..<UInt64.random(in: 0...12, using: &self) {
      let start = free + .random(in: 0...3, using: &self)
      let count = UInt64.random(in: 1...4, using: &self)
      ranges.append(pages(start, count))
      free = start + count
    }
    return ranges
  }
}
