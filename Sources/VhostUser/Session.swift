public import GuestRAM
public import LinuxIO
public import VirtioCore
public import Virtqueue

/// One front-end's use of a device, from the connection to its end.
///
/// It lives on the event loop's thread, and so do the kicks: a message never races a request. A message that would pull
/// memory or a ring from under requests in flight waits until they are finished. Whatever the front-end sends, the worst
/// that happens is the end of its session. Then the device is reset, its memory unmapped and every descriptor closed; the
/// connection itself closes with this object.
public final class Session<Device: VirtioDevice & ~Copyable> {
  /// What happens during a session that its owner may want to know.
  public enum Event: Sendable {
    /// The front-end has shared the guest's memory, or another map of it.
    case attached(GuestMemory)
    /// The driver broke a queue; the device serves nothing until it is reset.
    case broken(VirtqueueError)
    /// The in-flight area of a ring, by its index, has fewer entries than the ring: what a back-end leaves that is killed is
    /// lost to the next one.
    case untracked(ring: Int)
    /// The front-end has gone, or is turned away for the error, and every request of its driver is finished.
    case ended(VhostUserError?)
  }

  let device: ServedDevice<Device>
  let loop: EventLoop
  let connection: Connection
  let offered: ProtocolFeatures
  let rings: [Ring]
  var protocolFeatures: ProtocolFeatures = []
  /// As the front-end wrote it, which need not match the steps that the device was led through.
  var status: DeviceStatus = []
  var table: MemoryTable?
  /// Where the front-end wants to find what was written, when `isLogging`.
  var log: DirtyLog?
  var isLogging = false
  var channel: BackendChannel?
  var stateTransfer: StateTransfer?
  var postcopy: Postcopy?
  /// Whether guest memory must be left alone until the front-end can provide its pages.
  var isResting = false

  /// Whether features came again while rings were in use: the next message about rings or memory shows whose they are.
  var isDriverInDoubt = false

  /// A message that waits for the requests in flight; none behind it is read meanwhile.
  var keptMessage: Message?

  let report: (Event) -> Void
  private let attention: Eventfd
  private var watches: [EventLoop.Registration] = []
  private var socketWatch: EventLoop.Registration?
  private var phase = Phase.open
  private var drainedHandlers: [() -> Void] = []
  private var failure: VhostUserError?
  private var waitingRing: Int?
  /// Runs while the device keeps notifications back; nil until it has for the first time.
  private var reminder: Timer?

  private enum Phase {
    case open
    /// Nothing more is taken from the front-end; requests in flight are being finished.
    case draining(VhostUserError?)
    case ended
  }

  /// Starts to serve a front-end.
  /// - Parameters:
  ///   - device: must not be in use by another session.
  ///   - offered: the protocol features to offer, out of `ProtocolFeatures.supported`.
  ///   - report: told on the loop's thread what happens; `Event.ended` comes once and last. It must leave the device
  ///     alone when told that a queue is broken, for the device is being called then.
  public init(
    _ connection: consuming Connection, device: ServedDevice<Device>, loop: EventLoop,
    offering offered: ProtocolFeatures = .standard, report: @escaping (Event) -> Void
  ) throws(LinuxError) {
    self.device = device
    self.loop = loop
    self.offered = offered.intersection(.supported).subtracting(device.networkMessages == nil ? .network : [])
    self.report = report
    self.connection = connection
    rings = (0..<device.host.queueCount).map { Ring(index: $0) }
    attention = try Eventfd()
    try listen()
    watches.append(try loop.watch(attention.descriptor.rawValue) { [weak self] in self?.attend() })
    device.lines.carrier = { [weak self] in self?.carry($0) }
    device.lines.comeBack = { [weak self] in self?.comeBack() }
    device.lines.drained = { [weak self] in self?.goOn() }
    device.host.remind = { [weak self] in self?.remind(after: $0) }
    guarded { () throws(VhostUserError) in try resetDevice() }
  }

  /// Ends the session from this side: at once for the front-end, for the device as soon as its requests are finished.
  ///
  /// - Parameter drained: called when all is over, after `Event.ended`; at once if it is over already.
  public func end(whenDrained drained: @escaping () -> Void = {}) {
    if case .ended = phase { return drained() }
    drainedHandlers.append(drained)
    finish(nil)
  }

  /// Takes messages from the front-end, until `stopListening`.
  func listen() throws(LinuxError) {
    guard socketWatch == nil else { return }
    socketWatch = try loop.watch(connection.descriptor) { [weak self] in self?.receive() }
  }

  /// Leaves further messages, and even a hang-up, unread.
  func stopListening() {
    if let socketWatch { loop.cancel(socketWatch) }
    socketWatch = nil
  }

  private func receive() {
    guarded { () throws(VhostUserError) in
      guard let message = try connection.receive() else { return finish(nil) }
      try take(message)
    }
  }

  /// Runs what serves the front-end; its error ends the session.
  func guarded(_ body: () throws(VhostUserError) -> Void) {
    do throws(VhostUserError) {
      try body()
    } catch {
      finish(error)
    }
  }

  private func finish(_ error: VhostUserError?) {
    guard case .open = phase else { return }
    phase = .draining(error)
    stopListening()
    keptMessage = nil
    if device.isQuiet { return close(error) }
    device.host.pause()
  }

  /// What waited for the requests in flight can be done now.
  private func goOn() {
    switch phase {
    case .open: goOnWithMessage()
    case .draining(let error): close(error)
    case .ended: break
    }
  }

  private func close(_ error: VhostUserError?) {
    phase = .ended
    for watch in watches { loop.cancel(watch) }
    device.lines.carrier = nil
    device.lines.comeBack = nil
    device.lines.drained = nil
    device.host.remind = nil
    channel?.close()
    channel = nil
    stateTransfer?.cancel()
    stateTransfer = nil
    postcopy = nil
    for ring in rings { ring.removeDescriptors(from: loop) }
    device.host.reset()
    device.host.resume()
    table = nil
    log = nil
    device.memory = nil
    do throws(HostError) {
      try device.host.detachMemory()
      report(.ended(error))
    } catch {
      report(.ended(.host(error)))
    }
    for drained in drainedHandlers { drained() }
    drainedHandlers = []
  }
}

/// News that the device has while it is being called, when it must not be called again.
extension Session where Device: ~Copyable {
  private func carry(_ notification: DeviceNotification) {
    switch notification {
    case .queue(let index): call(rings[index])
    case .configuration: channel?.configurationChanged()
    case .broken(let queue, let error):
      report(.broken(error))
      signalError(queue)
    }
  }

  private func call(_ ring: Ring) {
    do throws(LinuxError) {
      guard try !ring.signalCall(), protocolFeatures.contains(.inbandNotifications) else { return }
      channel?.queueHasUsedBuffers(ring.index)
    } catch {
      failSoon(.system(error))
    }
  }

  private func signalError(_ queue: Int?) {
    do throws(LinuxError) {
      for ring in rings where queue == nil || ring.index == queue { try ring.signalError() }
    } catch {
      failSoon(.system(error))
    }
  }

  /// Has notifications that the device keeps back sent after so long.
  private func remind(after delay: Duration) {
    do throws(LinuxError) {
      if reminder == nil {
        let timer = try Timer()
        watches.append(try loop.watch(timer.descriptor.rawValue) { [weak self] in self?.sendHeldNotifications() })
        reminder = consume timer
      }
      reminder?.start(after: delay)
    } catch {
      failSoon(.system(error))
    }
  }

  private func sendHeldNotifications() {
    reminder?.drain()
    device.host.sendHeldNotifications()
  }

  /// Ends the session once the device is no longer being called.
  func failSoon(_ error: VhostUserError) {
    failure = failure ?? error
    attention.signal()
  }

  /// Serves a ring again after all else that the loop has to do, for its driver never pauses.
  func comeBack(to ring: Int? = nil) {
    waitingRing = ring ?? rings.first { device.host.isRunning($0.index) }?.index
    attention.signal()
  }

  private func attend() {
    attention.drain()
    if let failure { return finish(failure) }
    guard let ring = waitingRing else { return }
    waitingRing = nil
    if device.host.kick(ring) { comeBack(to: ring) }
  }
}
