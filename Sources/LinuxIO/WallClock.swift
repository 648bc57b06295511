import Glibc

/// The time of day, `CLOCK_REALTIME`; it may go back when somebody sets it.
public enum WallClock {
  /// Nanoseconds since the beginning of 1970.
  public static var now: UInt64 {
    var time = timespec()
    unsafe clock_gettime(CLOCK_REALTIME, &time)
    return UInt64(clamping: time.tv_sec) &* 1_000_000_000 &+ UInt64(clamping: time.tv_nsec)
  }
}
