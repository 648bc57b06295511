public import DeviceState
import GuestRAM
import Virtqueue

/// Saving a device and going on with it elsewhere, for every model alike.
///
/// The guest's memory travels by itself; the rings in it are part of the state and are checked against what was saved.
extension DeviceHost where Device: ~Copyable {
  /// Adds the device to a snapshot: one section of the host's, one of the model's. The device must be paused, with no
  /// chain taken and not given back. It can be resumed afterwards as if nothing had been saved.
  ///
  /// - Parameter instance: tells devices of one kind apart.
  public func save(into snapshot: inout Snapshot, instance: String = "") throws(HostError) {
    guard isPaused else { throw .notPaused }
    for index in 0..<queueCount {
      guard let slot = queues.slots[index] else { continue }
      let count = slot.queue.inFlightCount
      guard count == 0 else { throw .chainsInFlight(queue: index, count: count) }
    }
    do throws(StateError) {
      try snapshot.add(hostState, instance: instance)
      try snapshot.add(device.state, instance: instance)
    } catch {
      throw .state(error)
    }
  }

  /// Takes the device's sections out of a snapshot and goes on from them, paused until `resume`. Guest memory with the
  /// rings in it must be attached. After an error the device is as after a reset.
  public mutating func restore(from snapshot: inout Snapshot, instance: String = "") throws(HostError) {
    reset()
    queues.isPaused = true
    do throws(HostError) {
      try adopt(snapshot: &snapshot, instance)
    } catch {
      reset()
      throw error
    }
  }

  private var hostState: HostState {
    var state = HostState()
    state.device = Device.id.rawValue
    state.status = status.rawValue
    state.featuresLow = features.low
    state.featuresHigh = features.high
    state.configGeneration = configGeneration
    state.isStarted = isStarted
    for index in 0..<queueCount {
      if let queue = queueState(index) { state.queues.append(queue) }
    }
    return state
  }

  private func queueState(_ index: Int) -> QueueState? {
    guard let configuration = configurations[index] else { return nil }
    var state = QueueState()
    state.index = UInt16(index)
    state.isEnabled = queues.areEnabled[index]
    state.size = configuration.size
    state.descriptorTable = configuration.descriptorTable.rawValue
    state.availableRing = configuration.availableRing.rawValue
    state.usedRing = configuration.usedRing.rawValue
    state.nextAvailable = configuration.nextAvailable
    if let slot = queues.slots[index] {
      state.isRunning = true
      state.nextAvailable = slot.queue.nextAvailable
      state.nextUsed = slot.queue.nextUsed
    }
    return state
  }

  private mutating func adopt(snapshot: inout Snapshot, _ instance: String) throws(HostError) {
    let state: HostState
    let model: Device.State
    do throws(StateError) {
      state = try snapshot.take(HostState.self, instance: instance)
      model = try snapshot.take(Device.State.self, instance: instance)
    } catch {
      throw .state(error)
    }
    guard state.device == Device.id.rawValue else {
      throw .otherDevice(state.device, isHere: Device.id.rawValue)
    }
    try adopt(state)
    do throws(StateError) { try device.adopt(model) } catch { throw .state(error) }
  }

  private mutating func adopt(_ state: HostState) throws(HostError) {
    try acceptFeatures(Features(low: state.featuresLow, high: state.featuresHigh))
    status = DeviceStatus(rawValue: state.status)
    configGeneration = state.configGeneration
    if state.isStarted { start() }
    for queue in state.queues { try adopt(queue) }
  }

  private mutating func adopt(_ state: QueueState) throws(HostError) {
    let index = Int(state.index)
    try checkIndex(index)
    queues.areEnabled[index] = state.isEnabled
    guard state.isRunning else {
      configurations[index] = state.configuration
      return
    }
    try startQueue(index, state.configuration)
    guard let used = queues.slots[index]?.queue.nextUsed, used == state.nextUsed else {
      throw .memoryDoesNotFit(
        queue: index, used: queues.slots[index]?.queue.nextUsed ?? 0, saved: state.nextUsed)
    }
  }
}
