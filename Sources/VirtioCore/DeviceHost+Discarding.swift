public import Virtqueue

/// Queues that a transport has disabled, of devices that drop what comes meanwhile.
extension DeviceHost where Device: ~Copyable {
  /// How often buffers are looked for that came in the meantime.
  private static var mostRounds: Int { 8 }

  /// Gives back unread all that waits on a queue that is set up and not started, and asks for a kick with what comes next.
  /// The model hears nothing of it. Without effect unless it wants that; see `VirtioDevice.discardsWhileDisabled`.
  ///
  /// - Returns: the available index to start from, or to discard from the next time.
  public mutating func discardBuffers(
    ofQueue index: Int, _ configuration: QueueConfiguration
  ) throws(HostError) -> UInt16 {
    try checkIndex(index)
    guard device.discardsWhileDisabled(index), !isBroken else { return configuration.nextAvailable }
    guard queues.slots[index] == nil else { throw .queueRunning(index) }
    let slot = try openQueue(index, configuration)
    do throws(VirtqueueError) {
      // A driver that never pauses must not keep the thread.
      for _ in 0..<Self.mostRounds where try slot.queue.requestKicks() { try discardTurn(index, &slot.queue) }
    } catch {
      fail(error, queue: index)
    }
    return slot.restingIndex
  }

  private mutating func discardTurn(_ index: Int, _ queue: inout SplitVirtqueue) throws(VirtqueueError) {
    while let chain = try queue.next() { queue.complete(chain) }
    queue.publish()
    if queue.needsNotification() { notify(.queue(index)) }
  }
}
