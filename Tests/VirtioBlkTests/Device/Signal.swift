import LinuxIO

/// A count that a thread waits for, but not for ever, so that a test in which it never comes fails.
final class Signal: Sendable {
  private let count = Monitor(0)
  private let changed = WakeUp()

  func raise(_ step: Int = 1) {
    count.withLock { $0 += step }
    changed.wakeAll()
  }

  /// Waits until the count is above zero, and lowers it by one.
  /// - Returns: false when it took longer than anything here takes.
  @discardableResult
  func wait() -> Bool {
    let isThere: Bool? = count.wait(on: changed, until: MonotonicClock.moment(after: .seconds(20))) { (count) in
      guard count > 0 else { return nil }
      count -= 1
      return true
    }
    return isThere ?? false
  }
}
