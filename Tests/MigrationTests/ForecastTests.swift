import Testing

@testable import Migration

@Suite("Migration: forecast") struct ForecastTests {
  private static let mebibyte = 1_048_576.0

  private func rate(working set: Double, perSecond: Double) -> WriteRate {
    let seconds = 0.1
    func written(_ time: Double) -> Double { set * (1 - exponential(-perSecond * time / set)) }
    return WriteRate(seconds: seconds, first: written(seconds), second: written(4 * seconds))
  }

  /// e^x by its series, to stay apart from what is tested.
  private func exponential(_ x: Double) -> Double {
    var (sum, term) = (1.0, 1.0)
    for index in 1..<60 {
      term *= x / Double(index)
      sum += term
    }
    return sum
  }

  @Test("rate and working set are found from two looks", arguments: [20.0, 100, 1000], [50.0, 400])
  func found(set: Double, perSecond: Double) {
    let found = rate(working: set * Self.mebibyte, perSecond: perSecond * Self.mebibyte)
    let seconds = [0.1, 0.4, 1, 5]
    for time in seconds {
      let expected = set * Self.mebibyte * (1 - exponential(-perSecond * time / set))
      // What lies beyond the two looks is told less well, the less of the set they saw.
      let tolerance = time <= 0.4 ? 0.02 : 0.15
      if perSecond * time / set < 20 {
        #expect(abs(found.byteCount(after: time) - expected) <= tolerance * expected)
      }
    }
  }

  @Test("a guest that does not write is moved in one pass with no downtime")
  func idle() {
    let idle = WriteRate(seconds: 0.1, first: 0, second: 0)
    #expect(idle.byteCount(after: 100) == 0)
    let forecast = MigrationForecast(
      of: 2_000_000_000, writes: idle, linkBytesPerSecond: 1e9, policy: MigrationPolicy())
    #expect(forecast.seconds == 2)
    #expect(forecast.downtimeSeconds == 0 && forecast.passCount == 1 && forecast.fits)
    #expect(forecast.levers == [.balloon(secondsForHalf: 1, fittingByteCount: nil)])
  }

  @Test("the policy's limit counts where the connection takes more")
  func limited() {
    let idle = WriteRate(seconds: 0.1, first: 0, second: 0)
    let forecast = MigrationForecast(
      of: 2_000_000_000, writes: idle, linkBytesPerSecond: 1e9, policy: MigrationPolicy(mostBytesPerSecond: 500_000_000)
    )
    #expect(forecast.seconds == 4 && forecast.fits)
  }

  @Test("what it takes to stop the guest counts as downtime, and no connection helps against it")
  func pause() {
    let idle = WriteRate(seconds: 0.1, first: 0, second: 0)
    func forecast(_ pause: Double) -> MigrationForecast {
      MigrationForecast(
        of: 1_000_000_000, writes: idle, linkBytesPerSecond: 1e9, policy: MigrationPolicy(downtimeLimit: .seconds(1)),
        pauseSeconds: pause)
    }
    #expect(forecast(0.5).fits && forecast(0.5).downtimeSeconds == 0.5 && forecast(0.5).seconds == 1.5)
    #expect(!forecast(2).fits)
    #expect(forecast(2).levers == [.downtime(seconds: 2), .balloon(secondsForHalf: 0.5, fittingByteCount: nil)])
  }

  @Test("a guest that always writes new pages leaves a share of each pass: 1/10, 1/100, …")
  func geometric() {
    let writes = WriteRate(seconds: 0.1, first: 1e7, second: 4e7)
    let forecast = MigrationForecast(
      of: 1_000_000_000, writes: writes, linkBytesPerSecond: 1e9,
      policy: MigrationPolicy(downtimeLimit: .milliseconds(2)))
    // 1 s, 0.1 s and 0.01 s of passes leave 1 ms.
    #expect(forecast.passCount == 3 && forecast.fits)
    #expect(abs(forecast.downtimeSeconds - 0.001) < 1e-9)
    #expect(abs(forecast.seconds - 1.111) < 1e-9)
  }

  @Test("what is left of the first pass lies all over, and is taken to go at half of the rate")
  func scattered() {
    let writes = WriteRate(seconds: 0.1, first: 1e7, second: 4e7)
    for (milliseconds, passCount, downtime) in [(200, 1, 0.2), (199, 2, 0.01)] {
      let forecast = MigrationForecast(
        of: 1_000_000_000, writes: writes, linkBytesPerSecond: 1e9,
        policy: MigrationPolicy(downtimeLimit: .microseconds(milliseconds * 1000 + 1)))
      #expect(forecast.passCount == passCount)
      #expect(abs(forecast.downtimeSeconds - downtime) < 1e-9)
    }
  }

  @Test("the last pages go at what they are said to go at, whatever the passes before are held back to")
  func switchover() {
    let writes = WriteRate(seconds: 0.1, first: 9e5, second: 3.6e6)
    func forecast(_ switchover: UInt64?, link: Double = 1e9) -> MigrationForecast {
      let policy = MigrationPolicy(
        downtimeLimit: .milliseconds(100), mostBytesPerSecond: 10_000_000, switchoverBytesPerSecond: switchover,
        mostPasses: 3)
      return MigrationForecast(of: 1_000_000_000, writes: writes, linkBytesPerSecond: link, policy: policy)
    }
    #expect(!forecast(nil).fits && forecast(nil).passCount == 3)
    // 900 MB are left of a first pass that takes 100 s, and go at 10 GB/s.
    #expect(forecast(10_000_000_000).fits && forecast(10_000_000_000).passCount == 1)
    #expect(abs(forecast(10_000_000_000).downtimeSeconds - 0.09) < 1e-9)
    // One that is said to be slower than the passes counts as well, and none at all fits nothing.
    #expect(forecast(1_000_000).downtimeSeconds > 10 * forecast(nil).downtimeSeconds * 0.99)
    #expect(!forecast(0).fits && !forecast(10_000_000_000, link: 0).fits)
  }

  @Test("a balloon is named with what may be left in use where that would do, and a little more would not")
  func balloon() throws {
    // Each pass leaves nine tenths, so that the passes there may be are not enough for a large guest.
    let writes = WriteRate(seconds: 0.1, first: 9e7, second: 3.6e8)
    func forecast(_ byteCount: UInt64) -> MigrationForecast {
      MigrationForecast(
        of: byteCount, writes: writes, linkBytesPerSecond: 1e9,
        policy: MigrationPolicy(downtimeLimit: .milliseconds(100)))
    }
    let large = forecast(8_000_000_000)
    #expect(!large.fits)
    let fitting = try #require(
      large.levers.lazy.compactMap { (lever) -> UInt64? in
        if case .balloon(_, let byteCount) = lever { byteCount } else { nil }
      }.first)
    #expect(fitting > 900_000_000)
    #expect(forecast(fitting).fits && !forecast(fitting + fitting / 50).fits)
  }

  @Test("each lever that is named would do, and a little less of it would not")
  func levers() throws {
    let policy = MigrationPolicy(downtimeLimit: .milliseconds(50))
    let writes = rate(working: 512 * Self.mebibyte, perSecond: 2000 * Self.mebibyte)
    func forecast(_ writes: WriteRate, _ link: Double, _ policy: MigrationPolicy) -> MigrationForecast {
      MigrationForecast(of: 1 << 30, writes: writes, linkBytesPerSecond: link, policy: policy)
    }
    let bad = forecast(writes, 800 * Self.mebibyte, policy)
    #expect(!bad.fits)
    #expect(bad.levers.count == 5)
    for lever in bad.levers {
      switch lever {
      case .bandwidth(let rate):
        #expect(forecast(writes, rate, policy).fits)
        #expect(!forecast(writes, rate * 0.98, policy).fits)
      case .slowDown(let share):
        #expect(forecast(writes.slowed(to: share), 800 * Self.mebibyte, policy).fits)
        #expect(!forecast(writes.slowed(to: share * 1.02), 800 * Self.mebibyte, policy).fits)
      case .downtime(let seconds):
        let longer = MigrationPolicy(downtimeLimit: .microseconds(Int(seconds * 1e6) + 1))
        #expect(forecast(writes, 800 * Self.mebibyte, longer).fits)
      case .postcopy: #expect(policy.downtimeLimit > .zero)
      case .balloon(let seconds, let fitting):
        // Shrunk to less than it writes over and over, it would do nothing else than wait for memory.
        #expect(seconds > 0 && fitting == nil)
      }
    }
  }

  @Test("no connection at all does not fit and takes for ever, and nothing hangs")
  func noLink() {
    let writes = WriteRate(seconds: 0.1, first: 1e7, second: 4e7)
    let forecast = MigrationForecast(of: 1 << 30, writes: writes, linkBytesPerSecond: 0, policy: MigrationPolicy())
    #expect(!forecast.fits && forecast.seconds == .infinity)
  }

  @Test("as many passes as somebody likes to allow are forecast at once")
  func manyPasses() {
    let writes = rate(working: 512 * Self.mebibyte, perSecond: 2000 * Self.mebibyte)
    let policy = MigrationPolicy(downtimeLimit: .nanoseconds(1), mostPasses: .max)
    let forecast = MigrationForecast(of: 1 << 30, writes: writes, linkBytesPerSecond: 1e8, policy: policy)
    #expect(!forecast.fits && forecast.passCount < 10_000)
    #expect(policy.passLimit == 9999 && MigrationPolicy(mostPasses: .min).passLimit == 1)
  }

  @Test("what is no number, or beyond all numbers, never becomes a forecast that is no number")
  func strangeNumbers() {
    let numbers = [0, -1, 1e-300, 1, 1e300, .infinity, -.infinity, .nan]
    for seconds in numbers {
      for first in numbers {
        for second in numbers {
          let writes = WriteRate(seconds: seconds, first: first, second: second)
          for time in numbers where !time.isNaN {
            for share in [0, 0.5, 1, .nan] { #expect(writes.slowed(to: share).byteCount(after: time) >= 0) }
          }
          for link in numbers {
            let forecast = MigrationForecast(
              of: 1 << 30, writes: writes, linkBytesPerSecond: link, policy: MigrationPolicy(mostPasses: 5))
            #expect(forecast.seconds >= 0 && forecast.downtimeSeconds >= 0)
          }
        }
      }
    }
  }
}
