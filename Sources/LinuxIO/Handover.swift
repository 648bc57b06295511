import Glibc
import Synchronization

/// One value on its way from one thread to another that waits for it.
public final class Handover<Value: Sendable>: Sendable {
  private let value = Mutex<Value?>(nil)
  private let arrival: Eventfd

  public init() throws(LinuxError) {
    arrival = try Eventfd()
  }

  /// Hands the value over; the first one counts.
  public func put(_ new: Value) {
    let isFirst = value.withLock { value in
      guard value == nil else { return false }
      value = new
      return true
    }
    if isFirst { arrival.signal() }
  }

  /// Waits for the value, for as long as it takes.
  public func wait() -> Value {
    while true {
      if let value = value.withLock({ $0 }) { return value }
      var request = pollfd(fd: arrival.descriptor.rawValue, events: Int16(POLLIN), revents: 0)
      unsafe poll(&request, 1, -1)
    }
  }
}
