import Glibc
import Synchronization

/// Ends from any thread what others wait for.
///
/// One value may be given to any number of calls and streams. Those that wait, and all that come later, throw
/// `ECANCELED`.
public final class Cancellation: Sendable {
  private let flag = Atomic(false)
  private let event: Eventfd

  /// Makes one that has not happened.
  public init() throws(LinuxError) {
    event = try Eventfd()
  }

  /// Lets it happen, for good; once is as good as often.
  public func cancel() {
    flag.store(true, ordering: .releasing)
    // Nobody drains it, so it wakes those who come later too.
    event.signal()
  }

  /// Whether it has happened.
  public var isCancelled: Bool { flag.load(ordering: .acquiring) }

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
