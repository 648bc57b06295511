import CLinux
import Glibc

/// Several descriptors behind one.
///
/// Its descriptor becomes readable each time that one of the others becomes readable or writable. Watch it for changes
/// alone: nobody need drain it, nor the others, and so it stays readable.
public struct DescriptorGroup: ~Copyable, Sendable {
  /// The open descriptor, to watch in an event loop or in another group.
  public let descriptor: FileDescriptor

  /// - Parameter members: borrowed, and to be open for as long as the group lives; those that are nil are left out.
  ///   `EPERM` is thrown for a file that is always ready.
  public init(_ members: Int32?...) throws(LinuxError) {
    let epoll = FileDescriptor(owning: try retrying("epoll_create1") { epoll_create1(Int32(EPOLL_CLOEXEC)) })
    for case .some(let member) in members {
      var event = unsafe epoll_event()
      unsafe event.events = EPOLLIN.rawValue | EPOLLOUT.rawValue | EPOLLET.rawValue
      let result = unsafe epoll_ctl(epoll.rawValue, EPOLL_CTL_ADD, member, &event)
      if result < 0 { throw LinuxError(call: "epoll_ctl") }
    }
    descriptor = epoll
  }
}
