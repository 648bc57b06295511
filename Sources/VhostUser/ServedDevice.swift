public import GuestRAM
public import LinuxIO
public import VirtioCore

/// A device that front-ends use one after another, on the thread of one event loop.
///
/// It outlives its connections: between two of them the device is as before the first, except for what the operator has
/// set.
public final class ServedDevice<Device: VirtioDevice & ~Copyable> {
  var host: DeviceHost<Device>
  let lines: NotificationLines
  /// The guest's memory as the front-end shares it; nil while there is none.
  public internal(set) var memory: GuestMemory?
  /// What to do with messages for network devices; nil for any other device, and then they are not offered.
  public var networkMessages: NetworkMessages<Device>?

  /// What of rings and transports is offered beside the device's own features.
  private static var ringFeatures: Features { [.indirectDescriptors, .eventIndex, .version1] }

  /// - Parameter device: the model, freshly made.
  public init(_ device: consuming Device) {
    let lines = NotificationLines()
    self.lines = lines
    host = DeviceHost(device, ringFeatures: Self.ringFeatures) { lines.carry($0) }
  }

  /// Lets the operator change the device or look at it. A changed configuration space is told to the driver.
  public func update<Result: ~Copyable, E: Error>(
    _ body: (inout Device) throws(E) -> Result
  ) throws(E) -> Result {
    try host.update(body)
  }

  /// A backend, a timer or the operator has news for the model.
  ///
  /// A device whose requests are finished elsewhere calls it for them too: messages of the front-end may wait for that.
  public func wake() {
    if host.wake() { lines.comeBack?() }
    if host.isPaused, isQuiet { lines.drained?() }
  }

  /// Has the loop look at the queues for a moment before it sleeps, as long as that pays: a driver that is looked at need
  /// not kick.
  ///
  /// - Parameter limit: for how long at most.
  public func poll(on loop: EventLoop, atMost limit: Duration) {
    loop.poll(atMost: limit) { [weak self] in
      self?.host.poll() ?? false
    } beforeSleeping: { [weak self] in
      guard let self, host.isPolled else { return }
      if host.rest() { lines.comeBack?() }
    }
  }

  /// Whether no request is under way.
  var isQuiet: Bool { host.isQuiet }

  /// The features in use, what the driver broke, and all else that is the same for any device.
  public func withHost<Result: ~Copyable, E: Error>(
    _ body: (borrowing DeviceHost<Device>) throws(E) -> Result
  ) throws(E) -> Result {
    try body(host)
  }
}

/// Messages that only a network device has a use for.
public struct NetworkMessages<Device: VirtioDevice & ~Copyable> {
  /// The guest has come from elsewhere: the network is to learn where it is now (`SEND_RARP`, with the six bytes of the
  /// guest's address).
  public var announce: (inout Device, [UInt8]) -> Void
  /// The guest's MTU, as the driver is told (`NET_SET_MTU`).
  public var setMTU: (inout Device, UInt16) -> Void

  public init(
    announce: @escaping (inout Device, [UInt8]) -> Void, setMTU: @escaping (inout Device, UInt16) -> Void
  ) {
    self.announce = announce
    self.setMTU = setMTU
  }
}

/// Leads from a device to whoever is connected at the time.
final class NotificationLines {
  /// Told what the driver or the front-end should know; nil while nobody is connected.
  var carrier: ((DeviceNotification) -> Void)?
  /// Asked to have the device served again soon.
  var comeBack: (() -> Void)?
  /// Told when the paused device has finished its last request.
  var drained: (() -> Void)?

  func carry(_ notification: DeviceNotification) {
    carrier?(notification)
  }
}
