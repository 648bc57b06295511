import CLinux
import Glibc

/// A timer of the monotonic clock whose descriptor is readable once it has expired.
public struct Timer: ~Copyable, Sendable {
  /// The open descriptor, to watch in an event loop.
  public let descriptor: FileDescriptor

  /// Makes a timer that is not running.
  public init() throws(LinuxError) {
    descriptor = FileDescriptor(
      owning: try retrying("timerfd_create") { timerfd_create(CLOCK_MONOTONIC, Int32(TFD_CLOEXEC | TFD_NONBLOCK)) })
  }

  /// Runs it once, from now; what it was doing before is forgotten. No time at all expires at once.
  public func start(after delay: Duration) {
    set(first: max(delay.wholeNanoseconds, 1), period: 0)
  }

  /// Runs it again and again, for the first time one period from now.
  public func start(every period: Duration) {
    let nanoseconds = max(period.wholeNanoseconds, 1)
    set(first: nanoseconds, period: nanoseconds)
  }

  /// Stops it, and forgets expirations that nobody has drained.
  public func stop() {
    set(first: 0, period: 0)
  }

  /// Makes the descriptor unreadable until the next expiration.
  /// - Returns: how often the timer has expired since it was started or drained.
  @discardableResult
  public func drain() -> UInt64 {
    var count: UInt64 = 0
    return unsafe read(descriptor.rawValue, &count, 8) == 8 ? count : 0
  }

  /// A value of 0 means never. The call cannot fail: it knows only bad descriptors and bad times.
  private func set(first: UInt64, period: UInt64) {
    var times = itimerspec(it_interval: timespec(nanoseconds: period), it_value: timespec(nanoseconds: first))
    unsafe timerfd_settime(descriptor.rawValue, 0, &times, nil)
  }
}

extension timespec {
  fileprivate init(nanoseconds: UInt64) {
    self.init(tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
  }
}
