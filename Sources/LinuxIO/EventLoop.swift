import CLinux
import Glibc

/// Calls handlers when descriptors are ready, on the one thread that made it.
///
/// Readiness is a level, unless a watch is for changes: a handler that leaves something to read is called again. A
/// descriptor whose peer hung up, or that has failed, counts as ready whatever it is watched for, so that its handler
/// finds out; it must then cancel.
@safe public final class EventLoop {
  /// What a descriptor is watched for.
  public struct Events: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    public static let readable = Events(rawValue: EPOLLIN.rawValue)
    public static let writable = Events(rawValue: EPOLLOUT.rawValue)
    /// Each time only that something comes anew, not for as long as it is there: the descriptor need not be drained.
    public static let onlyChanges = Events(rawValue: EPOLLET.rawValue)
  }

  /// Names one watch for as long as the loop lives; a later watch never has the same.
  public struct Registration: Hashable, Sendable {
    fileprivate let number: UInt64
  }

  private struct Watch {
    let descriptor: Int32
    let handler: () -> Void
  }

  /// How other threads reach this one.
  public let poster: Poster

  private let epoll: FileDescriptor
  private var watches: [Registration: Watch] = [:]
  private var lastNumber: UInt64 = 0
  // SAFETY: of the kernel's union only the number that `control` stored is ever read.
  private var ready = unsafe [epoll_event](repeating: epoll_event(), count: 64)
  private var isDispatching = false
  var polling: Polling?
  private var isStopping = false

  /// Makes a loop that watches nothing yet.
  public init() throws(LinuxError) {
    epoll = FileDescriptor(owning: try retrying("epoll_create1") { epoll_create1(Int32(EPOLL_CLOEXEC)) })
    let inbox = try Inbox<Poster.Message>()
    poster = Poster(inbox: inbox)
    // The handler is the loop's own and is never called without it.
    try deliver(from: inbox) { [unowned self] (message) in
      switch message {
      case .work(let work): work()
      case .stop: stop()
      }
    }
  }

  /// Calls `handler` whenever `descriptor` is ready.
  ///
  /// The descriptor is borrowed: cancel before it is closed, or the kernel may go on to report a file that nobody can
  /// name any more. `EEXIST` is thrown for one that is watched already, `EPERM` for a file that is always ready.
  @discardableResult
  public func watch(
    _ descriptor: Int32, for events: Events = .readable, _ handler: @escaping () -> Void
  ) throws(LinuxError) -> Registration {
    lastNumber += 1
    let registration = Registration(number: lastNumber)
    try control(EPOLL_CTL_ADD, descriptor, events, registration)
    watches[registration] = Watch(descriptor: descriptor, handler: handler)
    return registration
  }

  /// Watches for something else from now on; no events at all leave hang-up and failure.
  public func change(_ registration: Registration, to events: Events) throws(LinuxError) {
    guard let watch = watches[registration] else { return }
    try control(EPOLL_CTL_MOD, watch.descriptor, events, registration)
  }

  /// Ends a watch. Its handler is not called again, not even for what has been reported already, and is let go of.
  /// Nothing happens for one that has been cancelled.
  public func cancel(_ registration: Registration) {
    guard let watch = watches.removeValue(forKey: registration) else { return }
    var event = unsafe epoll_event()
    // It fails only for a descriptor that was closed first, which the kernel then no longer watches either.
    unsafe epoll_ctl(epoll.rawValue, EPOLL_CTL_DEL, watch.descriptor, &event)
  }

  /// Calls handlers until `stop`.
  public func run() throws(LinuxError) {
    defer { isStopping = false }
    while !isStopping { try runOnce(within: pollForWork(until: { isStopping }) ? .zero : nil) }
  }

  /// Makes `run` return after the handlers whose descriptors have been reported ready, or at once when it is yet to
  /// start. Other threads ask the `poster`.
  public func stop() {
    isStopping = true
  }

  /// Waits for descriptors to be ready, and calls their handlers once. A handler must not call it.
  /// - Parameter limit: how long to wait; for ever when nil.
  /// - Returns: how many handlers were called; 0 when the time was up.
  @discardableResult
  public func runOnce(within limit: Duration? = nil) throws(LinuxError) -> Int {
    precondition(!isDispatching, "a handler runs its own event loop")
    isDispatching = true
    defer { isDispatching = false }
    var callCount = 0
    for index in 0..<(try wait(until: Deadline(after: limit))) {
      // A handler before this one may have cancelled the watch.
      let registration = Registration(number: unsafe ready[index].data.u64)
      guard let watch = watches[registration] else { continue }
      watch.handler()
      callCount += 1
    }
    return callCount
  }

  private func wait(until deadline: Deadline) throws(LinuxError) -> Int {
    let start = polling == nil ? 0 : MonotonicClock.now
    defer { polling?.slept(since: start) }
    while true {
      let count = unsafe epoll_wait(epoll.rawValue, &ready, Int32(ready.count), deadline.pollTimeout)
      if count > 0 || count == 0 && deadline.hasPassed { return Int(count) }
      if count < 0, errno != EINTR { throw LinuxError(call: "epoll_wait") }
    }
  }

  private func control(
    _ operation: Int32, _ descriptor: Int32, _ events: Events, _ registration: Registration
  ) throws(LinuxError) {
    var event = unsafe epoll_event()
    unsafe event.events = events.rawValue
    unsafe event.data.u64 = registration.number
    let result = unsafe epoll_ctl(epoll.rawValue, operation, descriptor, &event)
    if result < 0 { throw LinuxError(call: "epoll_ctl") }
  }
}
