public import GuestRAM
public import Virtqueue

/// Setting queues up and stopping them.
extension DeviceHost where Device: ~Copyable {
  /// Gives the device the guest's memory, or another map of it: running queues go on where they are.
  public mutating func attach(_ memory: GuestMemory) throws(HostError) {
    var slots = [QueueSet.Slot?](repeating: nil, count: queueCount)
    for index in 0..<queueCount {
      guard let slot = queues.slots[index], var configuration = configurations[index] else { continue }
      slot.queue.publish()
      configuration.nextAvailable = slot.queue.nextAvailable
      slots[index] = try open(configuration, in: memory)
    }
    queues.slots = slots
    queues.attached = memory
  }

  /// Forgets the guest's memory, when its owner takes it away. Queues must have been stopped.
  public mutating func detachMemory() throws(HostError) {
    guard !hasRunningQueues else { throw .queuesRunning }
    queues.attached = nil
  }

  /// Sets a queue up and serves it from now on.
  public mutating func startQueue(_ index: Int, _ configuration: QueueConfiguration) throws(HostError) {
    try checkIndex(index)
    let most = device.queueSizes[index]
    guard configuration.size <= most else { throw .queueTooLarge(configuration.size, most: most) }
    guard let memory = queues.attached else { throw .noMemory }
    let slot = try open(configuration, in: memory)
    start()
    device.resetQueue(index)
    configurations[index] = configuration
    queues.slots[index] = slot
  }

  /// Stops a queue, with everything published that was given back.
  ///
  /// - Returns: the available index to start again from.
  public mutating func stopQueue(_ index: Int) throws(HostError) -> UInt16 {
    try checkIndex(index)
    guard let slot = queues.slots[index] else { return configurations[index]?.nextAvailable ?? 0 }
    let count = slot.queue.inFlightCount
    guard count == 0 else { throw .chainsInFlight(queue: index, count: count) }
    settle(index, slot)
    configurations[index]?.nextAvailable = slot.queue.nextAvailable
    queues.slots[index] = nil
    return slot.queue.nextAvailable
  }

  /// Resets one queue, as `VIRTIO_F_RING_RESET` allows (2.6.1); its buffers are forgotten.
  public mutating func resetQueue(_ index: Int) throws(HostError) {
    try checkIndex(index)
    configurations[index] = nil
    queues.slots[index] = nil
    device.resetQueue(index)
  }

  /// Lets a queue be served or not, whether it runs already or will.
  ///
  /// - Returns: whether more buffers wait; see `kick`.
  @discardableResult
  public mutating func setEnabled(_ index: Int, _ isEnabled: Bool) throws(HostError) -> Bool {
    try checkIndex(index)
    areEnabled[index] = isEnabled
    return kick(index)
  }

  var hasRunningQueues: Bool {
    queues.slots.contains { $0 != nil }
  }

  func checkIndex(_ index: Int) throws(HostError) {
    guard configurations.indices.contains(index) else { throw .noSuchQueue(index, count: queueCount) }
  }

  func open(_ configuration: QueueConfiguration, in memory: GuestMemory) throws(HostError) -> QueueSet.Slot {
    let ring = RingFeatures(
      indirectDescriptors: features.contains(.indirectDescriptors), eventIndex: features.contains(.eventIndex),
      inOrder: features.contains(.inOrder))
    do throws(VirtqueueError) {
      return QueueSet.Slot(try SplitVirtqueue(configuration, features: ring, memory: memory))
    } catch {
      throw .virtqueue(error)
    }
  }
}
