import LinuxIO
import Synchronization

/// Leads from a device's backends to its thread, also while that is still being set up.
final class NewsLine<Device: VirtioDevice & ~Copyable>: Sendable {
  private enum Line: Sendable {
    /// Whether there has been news that nobody could be told of.
    case open(hasNews: Bool)
    case connected(Inbox<DeviceThread<Device>.Message>, isPosted: Bool)
  }

  private let line = Mutex(Line.open(hasNews: false))

  /// Has the device's thread wake its model; once for all news until it does.
  func wake() {
    let inbox: Inbox<DeviceThread<Device>.Message>? = line.withLock { line in
      switch line {
      case .open: line = .open(hasNews: true)
      case .connected(_, isPosted: true): break
      case .connected(let inbox, isPosted: false):
        line = .connected(inbox, isPosted: true)
        return inbox
      }
      return nil
    }
    inbox?.post(
      .work { [self] host in
        // Before the model looks, so that news in between is told again.
        line.withLock { line in
          if case .connected(let inbox, _) = line { line = .connected(inbox, isPosted: false) }
        }
        if host.wake() { wake() }
      })
  }

  func connect(_ inbox: Inbox<DeviceThread<Device>.Message>) {
    let hasNews = line.withLock { line in
      defer { line = .connected(inbox, isPosted: false) }
      if case .open(hasNews: true) = line { return true }
      return false
    }
    if hasNews { wake() }
  }
}

/// Somebody on another thread who waits until a paused device has nothing under way.
final class QuietWait: Sendable {
  enum Outcome: Sendable {
    case quiet
    /// The device's thread has ended.
    case gone
  }

  /// Who waits holds this, and the device's thread the wait itself: that it is dropped is an answer too.
  final class Ticket: Sendable {
    private let outcome = Monitor<Outcome?>(nil)
    private let ended = WakeUp()

    /// - Returns: nil when the time was up first.
    func wait(within limit: Duration) -> Outcome? {
      outcome.wait(on: ended, until: MonotonicClock.moment(after: limit)) { $0 }
    }

    fileprivate func end(_ new: Outcome) {
      outcome.withLock { $0 = $0 ?? new }
      ended.wakeAll()
    }
  }

  private let ticket: Ticket

  init(_ ticket: Ticket) {
    self.ticket = ticket
  }

  func end(_ outcome: Outcome) { ticket.end(outcome) }

  deinit {
    ticket.end(.gone)
  }
}
