import DeviceState
public import Virtqueue

/// What a device has to tell its driver, or a transport.
public enum DeviceNotification: Equatable, Sendable {
  /// Used buffers on a queue.
  case queue(Int)
  /// The configuration space changed by itself (2.3), or the device needs a reset.
  case configuration
  /// The driver broke a queue, by its number if that is known. The device serves no more until it is reset.
  case broken(queue: Int?, VirtqueueError)
}

/// A device and everything that all devices have alike: status, features, configuration space, queues.
///
/// Transports call it, from one thread; the model is lent its queues for each call. Pausing is not calling.
public struct DeviceHost<Device: VirtioDevice & ~Copyable>: ~Copyable {
  public internal(set) var device: Device
  /// How far the driver has got (2.1).
  public internal(set) var status: DeviceStatus = []
  /// The features in use: those that driver and device agreed on.
  public internal(set) var features: Features = []
  /// Counts the changes of the configuration space that the driver did not make (2.5.1).
  public internal(set) var configGeneration: UInt32 = 0
  /// What the driver broke, until the device is reset; nil too when a device restored from a state was broken before.
  public internal(set) var failure: VirtqueueError?

  /// Whether somebody looks at the queues without being told, by `poll`: then no kicks are asked for until `rest`.
  public var isPolled = false

  /// Asked to call `sendHeldNotifications` after so long; nil, as at first, for a transport that has no notification kept
  /// back. It must leave this host alone, which is being called then.
  public var remind: ((Duration) -> Void)? {
    didSet { reminder = nil }
  }

  /// The moment for which `remind` was asked last, until it has come.
  var reminder: UInt64?

  /// The model was not woken, since the device was paused.
  var hasMissedNews = false

  let ringFeatures: Features
  let notify: (DeviceNotification) -> Void
  var queues: QueueSet
  var configurations: [QueueConfiguration?]
  /// What the driver asks for before FEATURES_OK.
  var proposedFeatures: Features = []
  var isStarted = false
  /// The model has what only one device may use at a time.
  var hasBackends = false
  /// Bytes of the configuration space that were written since the last queue stopped: they are the next driver's, if
  /// there is another.
  var writtenAtRest: [Int: UInt8] = [:]
  /// What the model is to go on from once it starts.
  var arrivedState: Device.State?

  /// The ring features that are offered unless said otherwise.
  public static var defaultRingFeatures: Features {
    [.indirectDescriptors, .eventIndex, .version1, .inOrder, .ringReset]
  }

  /// - Parameters:
  ///   - device: the model, freshly made.
  ///   - ringFeatures: what of rings and transports to offer beside the device's own features.
  ///   - notify: told, in a call to this host, what the driver or transport should know.
  public init(
    _ device: consuming Device, ringFeatures: Features = Self.defaultRingFeatures,
    notify: @escaping (DeviceNotification) -> Void
  ) {
    let count = device.queueSizes.count
    self.device = device
    self.ringFeatures = ringFeatures
    self.notify = notify
    queues = QueueSet(count: count)
    configurations = [QueueConfiguration?](repeating: nil, count: count)
  }

  /// What a driver may choose from.
  public var offeredFeatures: Features {
    device.offeredFeatures.union(ringFeatures)
  }

  /// The number of virtqueues.
  public var queueCount: Int { configurations.count }

  /// Whether a queue was started and not stopped.
  public func isRunning(_ index: Int) -> Bool {
    queues.slots.indices.contains(index) && queues.slots[index] != nil
  }

  /// Whether queues are left unserved until `resume`.
  public var isPaused: Bool { queues.isPaused }

  /// Whether the device serves no more until it is reset, because the driver broke a queue here or before a restore.
  public var isBroken: Bool { status.contains(.needsReset) }
}

extension DeviceHost where Device: ~Copyable {
  /// Takes the features that a driver chose, for transports without the status steps.
  public mutating func acceptFeatures(_ chosen: Features) throws(HostError) {
    guard chosen.isSubset(of: offeredFeatures) else {
      throw .featuresNotOffered(chosen, offered: offeredFeatures)
    }
    guard chosen != features else { return }
    guard !hasRunningQueues else { throw .queuesRunning }
    if isStarted { device.reset() }
    isStarted = false
    features = chosen
    proposedFeatures = chosen
  }

  /// Notes what the driver writes into the feature fields. Whether they are acceptable, FEATURES_OK tells (3.1.1).
  public mutating func writeFeatures(_ chosen: Features) {
    if !status.contains(.featuresOK) { proposedFeatures = chosen }
  }

  /// Takes a step of 3.1.1. A refused FEATURES_OK stays unset, for the driver to see. With DRIVER_OK the queues are served
  /// that were kicked before, as Linux kicks some too early.
  ///
  /// - Returns: whether more buffers wait; see `kick`.
  @discardableResult
  public mutating func writeStatus(_ new: DeviceStatus) throws(HostError) -> Bool {
    if new.isEmpty {
      reset()
      return false
    }
    let steps = new.intersection(.steps)
    guard steps.isSuperset(of: stepsTaken), !steps.contains(.driverOK) || steps.contains(.featuresOK) else {
      throw .illegalStatus(new, after: status)
    }
    if steps.contains(.featuresOK), !status.contains(.featuresOK) {
      status.formUnion(steps.subtracting([.featuresOK, .driverOK]))
      try agreeOnFeatures()
    }
    status.formUnion(steps)
    if steps.contains(.driverOK) { try start() }
    return serveWaiting()
  }

  private mutating func agreeOnFeatures() throws(HostError) {
    guard proposedFeatures.contains(.version1) else { throw .legacyDriver }
    try acceptFeatures(proposedFeatures)
  }

  /// How far the driver has got by itself; nothing with a transport that does not show the status.
  var stepsTaken: DeviceStatus {
    status.intersection(.steps)
  }

  /// Starts the model once. A transport without the status steps starts it with its first queue.
  mutating func start() throws(HostError) {
    guard !isStarted else { return }
    isStarted = true
    device.start(with: features)
    guard let arrivedState else { return }
    do throws(StateError) {
      try device.adopt(arrivedState)
    } catch {
      throw .state(error)
    }
  }

  /// Back to the state before any driver came: queues gone, features forgotten (2.1.2, 2.4.1). Memory stays attached.
  public mutating func reset() {
    status = []
    features = []
    proposedFeatures = []
    failure = nil
    isStarted = false
    hasBackends = false
    writtenAtRest = [:]
    arrivedState = nil
    queues.slots = [QueueSet.Slot?](repeating: nil, count: queueCount)
    configurations = [QueueConfiguration?](repeating: nil, count: queueCount)
    queues.areEnabled = [Bool](repeating: true, count: queueCount)
    device.reset()
  }

  /// Reads the configuration space; bytes beyond its end are 0. The transport bounds `byteCount`.
  public func readConfig(at offset: Int, byteCount: Int) -> [UInt8] {
    let config = device.config
    return (0..<max(0, byteCount)).map { index in
      let (place, overflow) = offset.addingReportingOverflow(index)
      return !overflow && config.indices.contains(place) ? config[place] : 0
    }
  }

  /// Takes what the driver writes into the configuration space.
  public mutating func writeConfig(_ bytes: [UInt8], at offset: Int) throws(HostError) {
    let size = device.config.count
    guard offset >= 0, offset <= size, bytes.count <= size - offset else {
      throw .configOutOfRange(offset: offset, byteCount: bytes.count, size: size)
    }
    device.writeConfig(bytes[...], at: offset)
    guard !hasRunningQueues else { return }
    for (place, byte) in zip(offset..., bytes) { writtenAtRest[place] = byte }
  }

  /// Lets an operator change the device. A changed configuration space is noticed and told to the driver, even when
  /// `body` throws half-way.
  public mutating func update<Result: ~Copyable, E: Error>(
    _ body: (inout Device) throws(E) -> Result
  ) throws(E) -> Result {
    let before = device.config
    defer { noticeConfigChange(since: before) }
    return try body(&device)
  }

  /// Notices what a model changed in its configuration space by itself.
  ///
  /// A transport without the status steps has a driver once features are agreed, which may kick nothing before it hears.
  mutating func noticeConfigChange(since before: [UInt8]) {
    guard device.config != before else { return }
    configGeneration &+= 1
    if isStarted || (status.isEmpty && !features.isEmpty) { notify(.configuration) }
  }
}
