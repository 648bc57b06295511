import Glibc

/// The kernel's clock that never goes back, `CLOCK_MONOTONIC`.
public enum MonotonicClock {
  /// Nanoseconds since a moment before this process started; only differences mean anything.
  public static var now: UInt64 {
    var time = timespec()
    unsafe clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(clamping: time.tv_sec) &* 1_000_000_000 &+ UInt64(clamping: time.tv_nsec)
  }

  /// The moment `duration` from now; now, for a negative one, and the last of all for one of centuries.
  public static func moment(after duration: Duration) -> UInt64 {
    now.addingWithClamping(duration.wholeNanoseconds)
  }

  /// How long it is until `moment`; zero once it has come.
  public static func timeLeft(until moment: UInt64) -> Duration {
    let now = now
    return .nanoseconds(moment > now ? Int64(clamping: moment - now) : 0)
  }
}

/// The moment at which an operation gives up; never, when it was given no limit.
struct Deadline {
  private let moment: UInt64?

  /// The moment `limit` from now; a negative limit has already passed.
  init(after limit: Duration?) {
    moment = limit.map { MonotonicClock.moment(after: $0) }
  }

  /// Whether the moment has come.
  var hasPassed: Bool {
    guard let moment else { return false }
    return MonotonicClock.now >= moment
  }

  /// What `poll` and `epoll_wait` take: milliseconds, rounded up so that nobody wakes early; -1 is for ever.
  var pollTimeout: Int32 {
    guard let moment else { return -1 }
    let now = MonotonicClock.now
    guard moment > now else { return 0 }
    return Int32(clamping: (moment - now - 1) / 1_000_000 + 1)
  }
}

extension Duration {
  /// Nanoseconds, rounded up; 0 for a negative duration and the largest value for one of centuries.
  public var wholeNanoseconds: UInt64 {
    let (seconds, attoseconds) = components
    guard seconds >= 0, attoseconds >= 0 else { return 0 }
    let (whole, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
    guard !overflow else { return .max }
    return whole.addingWithClamping(UInt64(attoseconds + 999_999_999) / 1_000_000_000)
  }
}

extension UInt64 {
  fileprivate func addingWithClamping(_ other: UInt64) -> UInt64 {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? .max : sum
  }
}
