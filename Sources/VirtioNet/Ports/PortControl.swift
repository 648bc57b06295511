import LinuxIO

/// What is set of a port, for any thread, while it is in use.
public final class PortControl<Settings: Equatable & Sendable>: Sendable {
  private struct State {
    var settings: Settings
    var changeCount = 0
  }

  private let state: Monitor<State>
  /// Gives the port's card a sign to call, for a change too.
  let timer: Timer

  init(_ settings: Settings) throws(LinuxError) {
    state = Monitor(State(settings: settings))
    timer = try Timer()
  }

  /// What holds. A change holds from the port's next call on, for which its card gets a sign.
  public var settings: Settings {
    get { state.withLock { $0.settings } }
    set {
      state.withLock { state in
        state.settings = newValue
        state.changeCount += 1
      }
      timer.start(after: .zero)
    }
  }

  /// The settings, if they were changed since there had been as many changes as `count`.
  func change(since count: inout Int) -> Settings? {
    state.withLock { state in
      guard state.changeCount != count else { return nil }
      count = state.changeCount
      return state.settings
    }
  }
}

/// The signs that a port gives to itself by a timer.
struct PortAlarm {
  /// When the next comes; nil when none does.
  private var moment: UInt64?

  /// Forgets the next, for which the timer was started, since others have used the timer.
  mutating func forget() { moment = nil }

  /// Sees to it that a sign comes by a moment, unless one does before.
  mutating func set(_ next: UInt64, now: UInt64, _ timer: borrowing Timer) {
    if let moment, moment > now, moment <= next { return }
    moment = next
    timer.start(after: .nanoseconds(Int64(clamping: next > now ? next - now : 0)))
  }
}
