import LinuxIO

/// Lets somebody else say when a guest that is moved may be stopped, from any thread.
///
/// A source goes on sending what a guest writes until it has been told.
public final class SwitchoverPermit: Sendable {
  private let isAllowed = Monitor(false)
  private let changed = WakeUp()

  /// Not given yet.
  public init() {}

  /// From now on the guest may be stopped.
  public func allow() {
    isAllowed.withLock { $0 = true }
    changed.wakeAll()
  }

  /// Waits for it for so long; false when the time was up first, or the move was called off.
  func wait(_ limit: Duration, unless cancellation: Cancellation?) -> Bool {
    let end = MonotonicClock.moment(after: limit)
    while true {
      let slice = min(end, MonotonicClock.moment(after: .milliseconds(50)))
      if isAllowed.wait(on: changed, until: slice, for: { $0 ? true : nil }) != nil { return true }
      if cancellation?.isCancelled == true || slice == end { return false }
    }
  }
}
