import Glibc

/// State that several threads share and wait on: a lock, and the waiting for what others do under it.
///
/// A thread waits on a `WakeUp`, and whoever changes the state wakes those whose turn it may be. Nothing is missed: the
/// state is looked at under the lock before every wait.
@safe public final class Monitor<State: ~Copyable>: Sendable {
  // SAFETY: allocated and initialised in init, destroyed and freed in deinit; `state` is touched under `lock` alone.
  nonisolated(unsafe) private let lock: UnsafeMutablePointer<pthread_mutex_t>
  nonisolated(unsafe) private let state: UnsafeMutablePointer<State>

  /// - Parameter state: what is shared, before anybody shares it.
  public init(_ state: consuming sending State) {
    unsafe lock = .allocate(capacity: 1)
    unsafe lock.initialize(to: pthread_mutex_t())
    unsafe pthread_mutex_init(lock, nil)
    unsafe self.state = .allocate(capacity: 1)
    unsafe self.state.initialize(to: state)
  }

  deinit {
    unsafe pthread_mutex_destroy(lock)
    unsafe lock.deallocate()
    unsafe state.deinitialize(count: 1)
    unsafe state.deallocate()
  }

  /// Runs `body` while nobody else sees the state. It must not come back to the same monitor.
  public func withLock<Result, Failure: Error>(
    _ body: (inout State) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    unsafe pthread_mutex_lock(lock)
    defer { unsafe pthread_mutex_unlock(lock) }
    return try unsafe body(&state.pointee)
  }

  /// Runs `attempt` under the lock until it has a result, and waits between attempts to be woken.
  /// - Parameters:
  ///   - wakeUp: what others wake this thread by.
  ///   - moment: when to give up, on `MonotonicClock`; never when nil.
  /// - Returns: nil when the moment came first.
  public func wait<Result, Failure: Error>(
    on wakeUp: WakeUp, until moment: UInt64? = nil, for attempt: (inout State) throws(Failure) -> Result?
  ) throws(Failure) -> Result? {
    unsafe pthread_mutex_lock(lock)
    defer { unsafe pthread_mutex_unlock(lock) }
    while true {
      if let result = try unsafe attempt(&state.pointee) { return result }
      guard unsafe wakeUp.wait(lock, until: moment) else { return try unsafe attempt(&state.pointee) }
    }
  }
}

/// What threads wait on in a `Monitor`, always the same one.
@safe public final class WakeUp: Sendable {
  // SAFETY: allocated and initialised in init, destroyed and freed in deinit; made for calls from several threads.
  nonisolated(unsafe) private let condition: UnsafeMutablePointer<pthread_cond_t>

  public init() {
    unsafe condition = .allocate(capacity: 1)
    unsafe condition.initialize(to: pthread_cond_t())
    var attributes = pthread_condattr_t()
    unsafe pthread_condattr_init(&attributes)
    unsafe pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    unsafe pthread_cond_init(condition, &attributes)
    unsafe pthread_condattr_destroy(&attributes)
  }

  deinit {
    unsafe pthread_cond_destroy(condition)
    unsafe condition.deallocate()
  }

  /// Has every thread that waits look again.
  public func wakeAll() {
    unsafe pthread_cond_broadcast(condition)
  }

  /// - Returns: false when the moment has come.
  @unsafe fileprivate func wait(_ lock: UnsafeMutablePointer<pthread_mutex_t>, until moment: UInt64?) -> Bool {
    guard let moment else { return unsafe pthread_cond_wait(condition, lock) == 0 }
    var time = timespec(tv_sec: Int(moment / 1_000_000_000), tv_nsec: Int(moment % 1_000_000_000))
    return unsafe pthread_cond_timedwait(condition, lock, &time) != ETIMEDOUT
  }
}
