package import GuestRAM
package import Virtqueue

extension QueueSet.Slot {
  /// Opens a queue of a device whose driver has agreed to these features.
  convenience init(
    _ configuration: QueueConfiguration, _ features: Features, _ memory: GuestMemory
  ) throws(VirtqueueError) {
    let ring = RingFeatures(
      indirectDescriptors: features.contains(.indirectDescriptors), eventIndex: features.contains(.eventIndex),
      inOrder: features.contains(.inOrder))
    self.init(try SplitVirtqueue(configuration, features: ring, memory: memory), configuration)
  }
}

/// Queues without a host, for whoever calls a model by hand: a recording that is played again.
extension QueueSet {
  /// No queue is set up.
  package init(count: Int, in memory: GuestMemory) {
    self.init(count: count)
    attached = memory
  }

  package var count: Int { slots.count }

  /// Goes on in other memory, in which no queue is set up.
  package mutating func move(to memory: GuestMemory) {
    slots = [Slot?](repeating: nil, count: count)
    attached = memory
  }

  /// Sets a queue up, or up anew.
  package mutating func open(
    _ index: Int, _ configuration: QueueConfiguration, _ features: Features
  ) throws(VirtqueueError) {
    slots[index] = try Slot(configuration, features, memory)
  }

  package mutating func close(_ index: Int) {
    slots[index] = nil
  }

  package mutating func setEnabled(_ index: Int, _ isEnabled: Bool) {
    areEnabled[index] = isEnabled
  }

  /// How many chains of a queue the model has.
  package func inFlightCount(of index: Int) -> UInt16 {
    slots[index]?.inFlightCount ?? 0
  }

  /// Decides again whether the driver of an open queue is to be told; see `SplitVirtqueue.decideAgain`.
  package mutating func decideAgain(
    _ index: Int, _ decision: NotificationDecision
  ) throws(GuestMemoryError) -> Bool {
    guard let slot = slots[index] else { return false }
    return try slot.queue.decideAgain(decision, slot.configuration, memory)
  }

  /// Lets the driver see all that was given back, as a host does after each call.
  package mutating func publish() {
    for slot in slots { slot?.queue.publish() }
  }
}
