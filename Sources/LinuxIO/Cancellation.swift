import Glibc
import Synchronization

/// Ends from any thread what others wait for.
///
/// One value may be given to any number of calls and streams. Those that wait, and all that come later, throw
/// `ECANCELED`.
public final class Cancellation: Sendable {
  private enum Stage: UInt8, AtomicRepresentable { case open, cancelled, over }

  private let stage = Atomic(Stage.open)
  private let event: Eventfd

  /// Makes one that has not happened.
  public init() throws(LinuxError) {
    event = try Eventfd()
  }

  /// Lets it happen, for good; once is as good as often.
  public func cancel() {
    let change = stage.compareExchange(expected: .open, desired: .cancelled, ordering: .acquiringAndReleasing)
    guard change.exchanged else { return }
    // Nobody drains it, so it wakes those who come later too.
    event.signal()
  }

  /// From now on it cannot happen any more: what it would call off is done.
  /// - Returns: false when it has happened.
  public func expire() -> Bool {
    let change = stage.compareExchange(expected: .open, desired: .over, ordering: .acquiringAndReleasing)
    return change.original != .cancelled
  }

  /// Whether it has happened.
  public var isCancelled: Bool { stage.load(ordering: .acquiring) == .cancelled }

  /// Waits for so long; `ECANCELED` is thrown as soon as it happens, and at once if it has.
  public func wait(_ duration: Duration) throws(LinuxError) {
    let deadline = Deadline(after: duration)
    guard try !LinuxIO.wait(for: POLLIN, on: descriptor, until: deadline) else {
      throw LinuxError(call: "poll", number: ECANCELED)
    }
  }

  /// Readable once it has happened.
  var descriptor: Int32 { event.descriptor.rawValue }
}
