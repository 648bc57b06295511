import CLinux
import Glibc

/// A count that threads wait for to be above zero.
public struct Semaphore: ~Copyable, Sendable {
  private let descriptor: FileDescriptor

  /// Makes one whose count is zero.
  public init() throws(LinuxError) {
    descriptor = FileDescriptor(
      owning: try retrying("eventfd") { eventfd(0, Int32(EFD_CLOEXEC | EFD_SEMAPHORE)) })
  }

  /// Raises the count, and so lets that many threads go on.
  public func signal(_ count: Int = 1) {
    eventfd_write(descriptor.rawValue, UInt64(max(0, count)))
  }

  /// Waits until the count is above zero, and lowers it by one.
  public func wait() {
    var count: UInt64 = 0
    while unsafe eventfd_read(descriptor.rawValue, &count) != 0, errno == EINTR {}
  }
}
