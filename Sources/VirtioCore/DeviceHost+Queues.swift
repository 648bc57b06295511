public import GuestRAM
public import Virtqueue

/// Setting queues up and stopping them.
extension DeviceHost where Device: ~Copyable {
  /// Gives the device the guest's memory, or another map of it: running queues go on where they are.
  ///
  /// Chains in flight would go on in the memory that they were taken from, unseen by the new map's dirty log, so there must
  /// be none.
  public mutating func attach(_ memory: GuestMemory) throws(HostError) {
    var slots = [QueueSet.Slot?](repeating: nil, count: queueCount)
    for index in 0..<queueCount {
      guard let slot = queues.slots[index], var configuration = configurations[index] else { continue }
      configuration.nextAvailable = try restingIndex(index, slot)
      if slot.heldSince != nil { tellNow(index, slot) }
      let moved = try open(configuration, in: memory)
      moved.isWaiting = slot.isWaiting
      moved.lacksKicks = slot.lacksKicks
      slots[index] = moved
    }
    queues.slots = slots
    queues.attached = memory
  }

  /// Forgets the guest's memory, when its owner takes it away. Queues must have been stopped.
  public mutating func detachMemory() throws(HostError) {
    guard !hasRunningQueues else { throw .queuesRunning }
    queues.attached = nil
  }

  /// Sets a queue up, to be served from now on or, with a transport that shows the status, from DRIVER_OK on (2.1.2).
  public mutating func startQueue(_ index: Int, _ configuration: QueueConfiguration) throws(HostError) {
    try checkIndex(index)
    guard queues.slots[index] == nil else { throw .queueRunning(index) }
    let slot = try openQueue(index, configuration)
    if stepsTaken.isEmpty { try start() }
    arrivedState = nil
    if isStarted { device.resetQueue(index) }
    if !hasRunningQueues { writtenAtRest = [:] }
    if !isPaused { takeBackends() }
    // Whoever stopped the queue may have left a kick unanswered.
    slot.isWaiting = configuration.nextAvailable != 0
    configurations[index] = configuration
    queues.slots[index] = slot
  }

  /// Stops a queue. No chain of it may be in flight, unless the device is broken and will never give it back.
  ///
  /// - Returns: the available index to start again from.
  public mutating func stopQueue(_ index: Int) throws(HostError) -> UInt16 {
    try checkIndex(index)
    guard let slot = queues.slots[index] else { return configurations[index]?.nextAvailable ?? 0 }
    let next = try restingIndex(index, slot)
    configurations[index]?.nextAvailable = next
    if slot.heldSince != nil { tellNow(index, slot) }
    queues.slots[index] = nil
    if !hasRunningQueues { giveUpBackends() }
    return next
  }

  /// Resets one queue, as `VIRTIO_F_RING_RESET` allows (2.6.1); its buffers are forgotten.
  public mutating func resetQueue(_ index: Int) throws(HostError) {
    try checkIndex(index)
    configurations[index] = nil
    queues.slots[index] = nil
    device.resetQueue(index)
    if !hasRunningQueues { giveUpBackends() }
  }

  /// Lets a queue be served or not, whether it runs already or will.
  ///
  /// - Returns: whether more buffers wait; see `kick`.
  @discardableResult
  public mutating func setEnabled(_ index: Int, _ isEnabled: Bool) throws(HostError) -> Bool {
    try checkIndex(index)
    queues.areEnabled[index] = isEnabled
    sendHeldNotifications()
    return kick(index)
  }

  var hasRunningQueues: Bool {
    queues.slots.contains { $0 != nil }
  }

  func checkIndex(_ index: Int) throws(HostError) {
    guard configurations.indices.contains(index) else { throw .noSuchQueue(index, count: queueCount) }
  }

  func checkSize(_ size: UInt16, of index: Int) throws(HostError) {
    let most = device.queueSizes[index]
    guard size <= most else { throw .queueTooLarge(size, most: most) }
  }

  /// The index that a queue at rest goes on from, here or elsewhere.
  ///
  /// A broken device has dropped the chain that broke it, and others with it: whoever goes on takes them again.
  func restingIndex(_ index: Int, _ slot: QueueSet.Slot) throws(HostError) -> UInt16 {
    let count = slot.inFlightCount
    guard count == 0 || isBroken else { throw .chainsInFlight(queue: index, count: count) }
    return slot.restingIndex
  }

  func openQueue(_ index: Int, _ configuration: QueueConfiguration) throws(HostError) -> QueueSet.Slot {
    try checkSize(configuration.size, of: index)
    guard let memory = queues.attached else { throw .noMemory }
    return try open(configuration, in: memory)
  }

  func open(_ configuration: QueueConfiguration, in memory: GuestMemory) throws(HostError) -> QueueSet.Slot {
    do throws(VirtqueueError) {
      return try QueueSet.Slot(configuration, features, memory)
    } catch {
      throw .virtqueue(error)
    }
  }
}
