import LinuxIO
import Synchronization

/// An operator's hand on a move: whoever has it may call it off at any moment, from any thread.
public final class MigrationControl: Sendable {
  private let cancelled = Atomic(false)
  private let wakeUp = WakeUp()
  private let turn = Monitor(())

  public init() {}

  /// Calls the move off: the guest stays with the source, unless it was given away before.
  public func cancel() {
    turn.withLock { _ in cancelled.store(true, ordering: .releasing) }
    wakeUp.wakeAll()
  }

  /// Whether the move has been called off.
  public var isCancelled: Bool { cancelled.load(ordering: .acquiring) }

  /// Throws if the move has been called off.
  func check() throws(MigrationError) {
    if isCancelled { throw .cancelled }
  }

  /// Waits for so many nanoseconds, or until the move is called off.
  func wait(nanoseconds: UInt64) throws(MigrationError) {
    guard nanoseconds > 0 else { return try check() }
    _ = turn.wait(on: wakeUp, until: MonotonicClock.now &+ nanoseconds) { (_) in isCancelled ? true : nil }
    try check()
  }
}
