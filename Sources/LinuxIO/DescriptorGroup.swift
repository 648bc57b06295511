import CLinux
import Glibc

/// Several descriptors as one: its own is readable while any of them is ready for what it is watched for.
///
/// Who watches it for changes alone is told each time that a member becomes ready, and of each `wake`. A member that is
/// itself in the group for changes alone need not be drained: it is told of each time all the same, and so the group's
/// descriptor stays readable.
public struct DescriptorGroup: ~Copyable, Sendable {
  /// The open descriptor, to watch in an event loop or in another group. There is nothing to be read from it.
  public let descriptor: FileDescriptor
  private let wakeUp: Eventfd

  /// - Parameter members: borrowed, in the group for each change until they are closed; those that are nil are left out.
  ///   `EPERM` is thrown for a file that is always ready.
  public init(_ members: Int32?...) throws(LinuxError) {
    let group = FileDescriptor(owning: try retrying("epoll_create1") { epoll_create1(Int32(EPOLL_CLOEXEC)) })
    let wakeUp = try Eventfd()
    try Self.control(group.rawValue, EPOLL_CTL_ADD, wakeUp.descriptor.rawValue, .readable)
    for case .some(let member) in members {
      try Self.control(group.rawValue, EPOLL_CTL_ADD, member, [.readable, .writable, .onChange])
    }
    descriptor = group
    self.wakeUp = wakeUp
  }

  /// Makes the descriptor readable whatever its members are.
  public func wake() {
    wakeUp.signal()
  }

  /// Takes back what `wake` has done.
  public func calm() {
    wakeUp.drain()
  }

  /// Adds a descriptor, which leaves the group when it is closed.
  public func add(_ member: Int32, for events: EventLoop.Events) throws(LinuxError) {
    try Self.control(descriptor.rawValue, EPOLL_CTL_ADD, member, events)
  }

  /// Watches a member for something else from now on; what it is ready for already is told.
  public func change(_ member: Int32, to events: EventLoop.Events) throws(LinuxError) {
    // A member that has been ready stays in the kernel's list until somebody looks, and a change to one that is in the
    // list is not told. A new member is.
    try Self.control(descriptor.rawValue, EPOLL_CTL_DEL, member, [])
    try Self.control(descriptor.rawValue, EPOLL_CTL_ADD, member, events)
  }

  private static func control(
    _ group: Int32, _ operation: Int32, _ member: Int32, _ events: EventLoop.Events
  ) throws(LinuxError) {
    var event = unsafe epoll_event()
    unsafe event.events = events.rawValue
    _ = try retrying("epoll_ctl") { unsafe epoll_ctl(group, operation, member, &event) }
  }
}
