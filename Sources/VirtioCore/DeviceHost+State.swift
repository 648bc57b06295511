public import DeviceState
import GuestRAM
import Virtqueue

/// Saving a device and going on with it elsewhere, for every model alike.
///
/// The guest's memory travels by itself; the rings in it are part of the state and are checked against what was saved.
extension DeviceHost where Device: ~Copyable {
  /// Adds the device to a snapshot: one section of the host's, one of the model's. The device must be paused, with no
  /// chain in flight. It can be resumed afterwards as if nothing had been saved.
  ///
  /// Another device may go on from the snapshot only once this one has let go of its backends: see `letGo`.
  ///
  /// - Parameter instance: tells devices of one kind apart.
  public func save(into snapshot: inout Snapshot, instance: String = "") throws(HostError) {
    guard isPaused else { throw .notPaused }
    let host = try hostState
    do throws(StateError) {
      try snapshot.add(host, instance: instance)
      try snapshot.add(device.state, instance: instance)
    } catch {
      throw .state(error)
    }
  }

  /// Takes the device's sections out of a snapshot and goes on from them, paused until `resume`. Guest memory with the
  /// rings in it must be attached. It is only looked at, and the backends are left alone until `resume` too: for as long
  /// both may be another device's.
  ///
  /// After an error the device is as after a reset, paused only if it was before, and the snapshot is left whole.
  public mutating func restore(from snapshot: inout Snapshot, instance: String = "") throws(HostError) {
    let wasPaused = isPaused
    reset()
    queues.isPaused = true
    do throws(HostError) {
      try adopt(snapshot: &snapshot, instance)
    } catch {
      reset()
      queues.isPaused = wasPaused
      throw error
    }
  }

  /// Gives the model alone a state from elsewhere, for a transport whose driver's side keeps features and queues itself.
  ///
  /// The model goes on from it with the first queue that starts, for features may be agreed only until then. It is proven
  /// at once against those that are. No queue may run; after an error the model is as after a reset.
  public mutating func adopt(model state: Device.State) throws(HostError) {
    try restartModel()
    guard !features.isEmpty else {
      arrivedState = state
      return
    }
    do throws(HostError) {
      arrivedState = state
      try start()
    } catch {
      try restartModel()
      throw error
    }
  }

  /// Makes the model forget the driver that it had, for another that has agreed on the same features. No queue may run.
  public mutating func restartModel() throws(HostError) {
    guard !hasRunningQueues else { throw .queuesRunning }
    device.reset()
    isStarted = false
    for (place, byte) in writtenAtRest { device.writeConfig([byte], at: place) }
    failure = nil
    status.remove(.needsReset)
    arrivedState = nil
    configurations = [QueueConfiguration?](repeating: nil, count: queueCount)
  }

  var hostState: HostState<Device.State> {
    get throws(HostError) {
      var state = HostState<Device.State>()
      state.device = Device.id.rawValue
      state.status = status.rawValue
      state.features = features
      state.proposedFeatures = proposedFeatures
      state.configGeneration = configGeneration
      state.isStarted = isStarted
      for index in 0..<queueCount {
        if let queue = try queueState(index) { state.queues.append(queue) }
      }
      return state
    }
  }

  private func queueState(_ index: Int) throws(HostError) -> QueueState? {
    guard var configuration = configurations[index] else {
      return queues.areEnabled[index] ? nil : QueueState(index: UInt16(index), isEnabled: false)
    }
    let slot = queues.slots[index]
    if let slot { configuration.nextAvailable = try restingIndex(index, slot) }
    return QueueState(
      index: UInt16(index), isRunning: slot != nil, isEnabled: queues.areEnabled[index], configuration)
  }

  private mutating func adopt(snapshot: inout Snapshot, _ instance: String) throws(HostError) {
    var left = snapshot
    let state: HostState<Device.State>
    let model: Device.State
    do throws(StateError) {
      state = try left.take(HostState<Device.State>.self, instance: instance)
      model = try left.take(Device.State.self, instance: instance)
      try state.check()
    } catch {
      throw .state(error)
    }
    guard state.device == Device.id.rawValue else {
      throw .otherDevice(state.device, isHere: Device.id.rawValue)
    }
    try adopt(state)
    do throws(StateError) { try device.adopt(model) } catch { throw .state(error) }
    configGeneration = state.configGeneration
    snapshot = left
  }

  private mutating func adopt(_ state: HostState<Device.State>) throws(HostError) {
    try acceptFeatures(state.features)
    proposedFeatures = state.proposedFeatures
    status = DeviceStatus(rawValue: state.status)
    if state.isStarted { try start() }
    for queue in state.queues { try adopt(queue) }
  }

  private mutating func adopt(_ state: QueueState) throws(HostError) {
    let index = Int(state.index)
    try checkIndex(index)
    queues.areEnabled[index] = state.isEnabled
    try checkSize(state.size, of: index)
    guard state.isRunning else {
      configurations[index] = state.configuration
      return
    }
    guard let configuration = state.configuration else { throw .virtqueue(.illegalSize(0)) }
    try startQueue(index, configuration)
    guard let used = queues.slots[index]?.queue.nextUsed, used != state.nextAvailable else { return }
    throw .memoryDoesNotFit(queue: index, used: used, saved: state.nextAvailable)
  }
}
