import LinuxIO
import Support
import Testing

@Suite("Token bucket") struct TokenBucketTests {
  private let second: UInt64 = 1_000_000_000
  private let start: UInt64 = 1_000_000_000_000

  private func bucket(_ perSecond: UInt64, burst: UInt64) -> TokenBucket {
    TokenBucket(TokenBucket.Rate(perSecond: perSecond, burst: burst))
  }

  @Test("a burst passes at once, and what follows at the rate")
  func burst() {
    var bucket = bucket(10, burst: 5)
    for _ in 0..<5 { #expect(bucket.take(1, now: start) == 0) }
    #expect(bucket.delay(of: 1, now: start) == second / 10)
    #expect(bucket.take(1, now: start) == second / 10)
    #expect(bucket.take(1, now: start) == second / 5, "each waits behind those before it")
  }

  @Test("a pause fills the bucket up to the burst and no further")
  func pause() {
    var bucket = bucket(10, burst: 5)
    _ = bucket.take(5, now: start)
    let later = start + 1000 * second
    #expect(bucket.delay(of: 5, now: later) == 0)
    _ = bucket.take(5, now: later)
    #expect(bucket.delay(of: 1, now: later) == second / 10)
  }

  @Test("more than a full bucket passes when it is full, and is paid for afterwards")
  func debt() {
    var bucket = bucket(100, burst: 10)
    #expect(bucket.take(1000, now: start) == 0)
    #expect(bucket.delay(of: 1, now: start) == 10 * second - 90 * second / 1000)
    #expect(bucket.delay(of: 1000, now: start) == 10 * second)
  }

  @Test("what is put back can be taken again")
  func putBack() {
    var bucket = bucket(10, burst: 3)
    _ = bucket.take(3, now: start)
    bucket.putBack(2)
    #expect(bucket.delay(of: 2, now: start) == 0)
    #expect(bucket.delay(of: 3, now: start) == second / 10)
  }

  @Test("no number traps", arguments: [(UInt64.max, UInt64.max), (1, .max), (.max, 1), (0, 0)])
  func extremes(rate: UInt64, burst: UInt64) {
    var bucket = bucket(rate, burst: burst)
    for now in [0, 1, UInt64.max] {
      for count in [0, 1, UInt64.max] {
        let announced = bucket.delay(of: count, now: now)
        #expect(bucket.take(count, now: now) == announced)
        bucket.putBack(count)
      }
    }
  }

  @Test("over any time no more passes than the burst and what the rate brings")
  func average() {
    var random = SeededGenerator(for: "Token bucket: average")
    for _ in 0..<50 {
      let rate = UInt64.random(in: 1...5000, using: &random)
      let burst = UInt64.random(in: 1...1000, using: &random)
      var bucket = bucket(rate, burst: burst)
      var now = start
      var taken: UInt64 = 0
      for _ in 0..<200 {
        let count = UInt64.random(in: 1...burst, using: &random)
        now += UInt64.random(in: 0...second / 10, using: &random)
        now += bucket.take(count, now: now)
        taken += count
        let allowed = burst + UInt64((Double(now - start) / Double(second) * Double(rate)).rounded(.up))
        #expect(taken <= allowed)
      }
    }
  }
}
