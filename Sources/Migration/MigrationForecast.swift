/// What a move would be like, told before it begins.
public struct MigrationForecast: Equatable, Sendable {
  /// What would let a guest be moved that is not expected to fit the downtime limit, or make its move shorter.
  public enum Lever: Equatable, Sendable {
    /// A connection, or a limit, of so many bytes a second.
    case bandwidth(bytesPerSecond: Double)
    /// A downtime limit of so many seconds.
    case downtime(seconds: Double)
    /// Letting the guest run for this share of the time.
    case slowDown(share: Double)
    /// Letting pages follow the guest (`MigrationPolicy.postcopy`), which always fits if stopping the guest does.
    case postcopy
    /// Giving back memory by the balloon: each byte that is not sent saves its time; so many seconds for a half of it.
    case balloon(secondsForHalf: Double)
  }

  /// From the first page to the last, in seconds.
  public let seconds: Double
  /// How long the guest would stand still, in seconds.
  public let downtimeSeconds: Double
  /// How many passes are made while it runs.
  public let passCount: Int
  /// Whether the downtime is within the limit.
  public let fits: Bool
  /// What would help, if it does not fit; otherwise what would shorten the move.
  public let levers: [Lever]

  /// - Parameters:
  ///   - byteCount: what has to be sent at least: memory with something in it.
  ///   - linkBytesPerSecond: what the connection takes, measured.
  ///   - pauseSeconds: what it takes to stop the guest, whatever is left to send.
  public init(
    of byteCount: UInt64, writes: WriteRate, linkBytesPerSecond: Double, policy: MigrationPolicy,
    pauseSeconds: Double = 0
  ) {
    // Of no number at all the greater is the other.
    let rate = min(max(0, linkBytesPerSecond), policy.mostBytesPerSecond.map { Double($0) } ?? .infinity)
    let limit = max(0, policy.downtimeLimit.inSeconds - pauseSeconds)
    let course = Course(Double(byteCount), writes, rate, limit, policy.passLimit)
    (seconds, passCount) = (course.seconds + pauseSeconds, course.passCount)
    downtimeSeconds = course.downtime + pauseSeconds
    // No connection helps against a pause that is too long by itself.
    fits = downtimeSeconds <= max(0, policy.downtimeLimit.inSeconds)
    guard !fits else {
      let half = Course(Double(byteCount) / 2, writes, rate, limit, policy.passLimit)
      levers = [.balloon(secondsForHalf: max(0, course.seconds - half.seconds))]
      return
    }
    func wouldFit(_ writes: WriteRate, _ rate: Double) -> Bool {
      pauseSeconds <= policy.downtimeLimit.inSeconds
        && Course(Double(byteCount), writes, rate, limit, policy.passLimit).downtime <= limit
    }
    var found: [Lever] = []
    if let factor = Self.least(in: 1...1024, where: { wouldFit(writes, rate * $0) }) {
      found.append(.bandwidth(bytesPerSecond: rate * factor))
    }
    found.append(.downtime(seconds: downtimeSeconds))
    if let divisor = Self.least(in: 1...100, where: { wouldFit(writes.slowed(to: 1 / $0), rate) }) {
      found.append(.slowDown(share: 1 / divisor))
    }
    if pauseSeconds <= policy.downtimeLimit.inSeconds { found.append(.postcopy) }
    levers = found
  }

  /// The least number of a range with a property that all larger ones have too, to a thousandth; nil if none has it.
  private static func least(in range: ClosedRange<Double>, where isEnough: (Double) -> Bool) -> Double? {
    guard isEnough(range.upperBound) else { return nil }
    var (low, high) = (range.lowerBound, range.upperBound)
    while high > low * 1.001 {
      let middle = (low + high) / 2
      if isEnough(middle) { high = middle } else { low = middle }
    }
    return high
  }
}

/// The passes that a move would make.
private struct Course {
  private(set) var seconds = 0.0
  private(set) var passCount = 0
  private(set) var downtime = 0.0

  /// - Parameter mostPasses: at least 1.
  init(_ byteCount: Double, _ writes: WriteRate, _ rate: Double, _ limit: Double, _ mostPasses: Int) {
    var remaining = byteCount
    repeat {
      let time = rate > 0 ? remaining / rate : .infinity
      seconds += time
      passCount += 1
      remaining = writes.byteCount(after: time)
      // As a move does that has only the first pass to tell what pages go at that lie all over.
      let scattered = passCount == 1 ? rate / 2 : rate
      downtime = scattered > 0 ? remaining / scattered : .infinity
    } while downtime > limit && passCount < mostPasses && downtime.isFinite
    seconds += downtime
  }
}

extension Duration {
  var inSeconds: Double { Double(components.seconds) + Double(components.attoseconds) / 1e18 }
}
