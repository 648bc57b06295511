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
    /// Giving back memory by the balloon: each byte that is not sent saves its time, so many seconds for half of them.
    /// With no more than `fittingByteCount` in use a move that does not fit would; nil where it fits as it is, or where
    /// only so little would do as the guest writes within a second, which it cannot do with.
    case balloon(secondsForHalf: Double, fittingByteCount: UInt64?)
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
    let prospect = Prospect(
      byteCount: Double(byteCount), writes: writes, rate: rate, pauseSeconds: pauseSeconds, policy: policy)
    let course = prospect.course
    (seconds, passCount) = (course.seconds + pauseSeconds, course.passCount)
    downtimeSeconds = course.downtime + pauseSeconds
    fits = prospect.fits
    levers = prospect.levers
  }
}

/// All that a move's course depends on.
private struct Prospect {
  typealias Lever = MigrationForecast.Lever

  var byteCount: Double
  var writes: WriteRate
  var rate: Double
  let pauseSeconds: Double
  let policy: MigrationPolicy

  private var downtimeLimit: Double { max(0, policy.downtimeLimit.inSeconds) }
  // No connection helps against a pause that is too long by itself.
  private var canBeStopped: Bool { pauseSeconds <= downtimeLimit }
  /// What may be spent on the last pages.
  private var limit: Double { max(0, downtimeLimit - pauseSeconds) }

  var course: Course { Course(byteCount, writes, rate, limit, policy) }
  var fits: Bool { canBeStopped && course.downtime <= limit }

  private func wouldFit(with change: (inout Prospect) -> Void) -> Bool {
    var other = self
    change(&other)
    return other.fits
  }

  var levers: [Lever] { (fits ? [] : fittingLevers) + (balloon.map { [$0] } ?? []) }

  private var fittingLevers: [Lever] {
    var found: [Lever] = []
    if let factor = Self.least(in: 1...1024, where: { (factor) in wouldFit { $0.rate *= factor } }) {
      found.append(.bandwidth(bytesPerSecond: rate * factor))
    }
    found.append(.downtime(seconds: course.downtime + pauseSeconds))
    let divisor = Self.least(in: 1...100, where: { (part) in wouldFit { $0.writes = writes.slowed(to: 1 / part) } })
    if let divisor { found.append(.slowDown(share: 1 / divisor)) }
    if canBeStopped { found.append(.postcopy) }
    return found
  }

  private var balloon: Lever? {
    var half = self
    half.byteCount /= 2
    let saved = course.seconds - half.course.seconds
    // Neither nothing nor what is no number, as for a move that takes for ever.
    guard saved > 0 else { return nil }
    return .balloon(secondsForHalf: saved, fittingByteCount: fits ? nil : fittingByteCount)
  }

  /// With how many bytes in use it would fit, if the guest could do with them.
  private var fittingByteCount: UInt64? {
    let most = min(1024, byteCount / max(1, writes.byteCount(after: 1)))
    guard most > 1 else { return nil }
    return Self.least(in: 1...most, where: { (divisor) in wouldFit { $0.byteCount /= divisor } })
      .map { UInt64(byteCount / $0) }
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

  /// - Parameter limit: what may be spent on the last pages, in seconds.
  init(_ byteCount: Double, _ writes: WriteRate, _ rate: Double, _ limit: Double, _ policy: MigrationPolicy) {
    let switchover = policy.switchoverBytesPerSecond.map { Double($0) }
    var remaining = byteCount
    repeat {
      let time = rate > 0 ? remaining / rate : .infinity
      seconds += time
      passCount += 1
      remaining = writes.byteCount(after: time)
      // As a move does that has only the first pass to tell what pages go at that lie all over.
      let last = switchover ?? (passCount == 1 ? rate / 2 : rate)
      // Whatever is said of the last pages, a pass that takes for ever never comes to them.
      downtime = last > 0 && time.isFinite ? remaining / last : .infinity
    } while downtime > limit && passCount < policy.passLimit && downtime.isFinite
    seconds += downtime
  }
}

extension Duration {
  var inSeconds: Double { Double(components.seconds) + Double(components.attoseconds) / 1e18 }
}
