import CLinux
import Glibc

/// A wake-up between threads or processes: any number of signals before a drain count as one.
public struct Eventfd: ~Copyable, Sendable {
  /// The open descriptor, to watch or to duplicate for a peer; readable while a signal is pending.
  public let descriptor: FileDescriptor

  /// Makes one with no signal pending, which never blocks.
  public init() throws(LinuxError) {
    descriptor = FileDescriptor(owning: try retrying("eventfd") { eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK)) })
  }

  /// Wakes whoever waits for the descriptor to become readable.
  ///
  /// It cannot fail: the one error that this write has is a full counter, and then the reader is awake.
  public func signal() {
    eventfd_write(descriptor.rawValue, 1)
  }

  /// Forgets the pending signals, so that the descriptor is readable again only after the next one.
  /// - Returns: how many there were.
  @discardableResult
  public func drain() -> UInt64 {
    var count: UInt64 = 0
    return unsafe eventfd_read(descriptor.rawValue, &count) == 0 ? count : 0
  }
}
