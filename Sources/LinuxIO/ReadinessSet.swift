import CLinux
import Glibc

/// Several descriptors as one: it is readable while any of them is ready for what it is watched for.
public struct ReadinessSet: ~Copyable, Sendable {
  /// The open descriptor, to watch in an event loop. There is nothing to be read from it.
  public let descriptor: FileDescriptor
  private let wakeUp: Eventfd

  /// Makes an empty set.
  public init() throws(LinuxError) {
    let set = FileDescriptor(owning: try retrying("epoll_create1") { epoll_create1(Int32(EPOLL_CLOEXEC)) })
    let wakeUp = try Eventfd()
    try Self.control(set.rawValue, EPOLL_CTL_ADD, wakeUp.descriptor.rawValue, .readable)
    descriptor = set
    self.wakeUp = wakeUp
  }

  /// Makes the descriptor readable whatever its members are; who watches it for changes is told each time.
  public func wake() {
    wakeUp.signal()
  }

  /// Takes back what `wake` has done.
  public func calm() {
    wakeUp.drain()
  }

  /// Adds a descriptor, which leaves the set when it is closed.
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
    _ set: Int32, _ operation: Int32, _ member: Int32, _ events: EventLoop.Events
  ) throws(LinuxError) {
    var event = unsafe epoll_event()
    unsafe event.events = events.rawValue
    _ = try retrying("epoll_ctl") { unsafe epoll_ctl(set, operation, member, &event) }
  }
}
