public import VirtioCore
import Virtqueue

/// When the driver is told (`VIRTIO_NET_CTRL_NOTF_COAL`, 5.1.6.5.9).
extension NetDevice {
  public func notificationLimits(of index: Int) -> NotificationLimits? {
    index == settings.controlQueue ? nil : coalescing[index].notificationLimits
  }

  /// Each queue that the driver disables and enables again is as all of its kind. Without `VIRTIO_F_RING_RESET` no driver
  /// can, and a queue rests only because somebody pauses the guest.
  public mutating func resetQueue(_ index: Int) {
    if features.contains(.ringReset) { coalescing.forget(queue: index) }
  }

  mutating func setCoalescing(
    _ number: UInt8, _ chain: inout DescriptorChain, _ queues: borrowing QueueSet
  ) throws(VirtqueueError) -> Bool {
    switch number {
    case 0...1: try setCoalescing(isReceive: number == 1, &chain)
    case 2: try setQueueCoalescing(&chain, queues)
    case 3: try getQueueCoalescing(&chain, queues)
    default: false
    }
  }

  private mutating func setCoalescing(
    isReceive: Bool, _ chain: inout DescriptorChain
  ) throws(VirtqueueError) -> Bool {
    guard features.contains(.netNotificationCoalescing), let limits = try readLimits(&chain), try isOver(&chain)
    else { return false }
    if isReceive { coalescing.setReceive(limits) } else { coalescing.setTransmit(limits) }
    return true
  }

  private mutating func setQueueCoalescing(
    _ chain: inout DescriptorChain, _ queues: borrowing QueueSet
  ) throws(VirtqueueError) -> Bool {
    guard let queue = try readQueue(&chain, queues), let limits = try readLimits(&chain), try isOver(&chain)
    else { return false }
    coalescing.set(limits, queue: queue)
    return true
  }

  private func getQueueCoalescing(
    _ chain: inout DescriptorChain, _ queues: borrowing QueueSet
  ) throws(VirtqueueError) -> Bool {
    guard features.contains(.netQueueNotificationCoalescing) else { return false }
    var limits: Coalescing.Limits?
    if let queue = try readQueue(&chain, queues), try isOver(&chain) { limits = coalescing[queue] }
    // A refusal stands where the driver looks for it too.
    guard try chain.write(limits?.packets ?? 0), try chain.write(limits?.microseconds ?? 0) else { return false }
    return limits != nil
  }

  /// A receive or transmit queue that is enabled; nil for any other.
  private func readQueue(
    _ chain: inout DescriptorChain, _ queues: borrowing QueueSet
  ) throws(VirtqueueError) -> Int? {
    // The second number is reserved.
    guard features.contains(.netQueueNotificationCoalescing), let queue = try chain.read(UInt16.self).map(Int.init),
      try chain.read(UInt16.self) != nil, queue < 2 * lanes.count, queue != settings.controlQueue,
      queues.isRunning(queue)
    else { return nil }
    return queue
  }

  private func readLimits(_ chain: inout DescriptorChain) throws(VirtqueueError) -> Coalescing.Limits? {
    guard let packets = try chain.read(UInt32.self), let microseconds = try chain.read(UInt32.self) else { return nil }
    var limits = Coalescing.Limits()
    limits.packets = packets
    limits.microseconds = microseconds
    return limits
  }
}
