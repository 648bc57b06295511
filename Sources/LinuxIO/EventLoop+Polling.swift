/// Looking for work for a moment before sleeping, where work tends to come again at once.
struct Polling {
  /// Somebody who looks.
  struct Watcher {
    let look: () -> Bool
    let rest: () -> Void
  }

  var limit: UInt64
  var watchers: [Watcher]
  /// For how many nanoseconds to look in vain before the thread sleeps; 0 while that does not pay.
  var patience: UInt64 = 0

  private static let least: UInt64 = 4000

  func look() -> Bool {
    var hasWork = false
    for watcher in watchers where watcher.look() { hasWork = true }
    return hasWork
  }

  func rest() {
    for watcher in watchers { watcher.rest() }
  }

  /// Learns from a sleep: a short one should have been none, and a long one was right.
  mutating func slept(since start: UInt64) {
    let length = MonotonicClock.now - start
    patience = length > limit ? 0 : min(limit, max(Self.least, patience * 2))
  }
}

extension EventLoop {
  /// For how long work may keep the loop from its descriptors, in nanoseconds.
  private static var turn: UInt64 { 100_000 }

  /// Has `run` call `look` again and again before it sleeps, for as long as that tends to find something; beside whatever
  /// else it was told to look for.
  ///
  /// - Parameters:
  ///   - limit: for how long to look in vain at most.
  ///   - look: does what there is to do, and returns whether there was anything.
  ///   - rest: called before the thread sleeps: from now on it has to be woken.
  public func poll(atMost limit: Duration, _ look: @escaping () -> Bool, beforeSleeping rest: @escaping () -> Void) {
    let limit = limit.wholeNanoseconds
    guard limit > 0 else { return }
    let others = polling?.watchers ?? []
    polling = Polling(
      limit: max(limit, polling?.limit ?? 0), watchers: others + [Polling.Watcher(look: look, rest: rest)])
  }

  /// Whether `run` will look for work before it sleeps, so that nobody need tell it of any.
  public var isAboutToPoll: Bool {
    (polling?.patience ?? 0) > 0
  }

  /// - Returns: whether there was work to the end, so that the thread should not sleep.
  func pollForWork(until isOver: () -> Bool) -> Bool {
    guard let polling else { return false }
    guard polling.patience > 0 else {
      polling.rest()
      return false
    }
    let start = MonotonicClock.now
    var lastWork = start
    while !isOver() {
      let hasWork = polling.look()
      let now = MonotonicClock.now
      if hasWork {
        lastWork = now
        if now - start > Self.turn { return true }
      } else if now - lastWork > polling.patience {
        break
      }
    }
    polling.rest()
    return false
  }
}
