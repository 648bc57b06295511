import LinuxIO
import Virtqueue

/// How long used buffer notifications of one queue may be kept back, as a driver has asked for.
public struct NotificationLimits: Equatable, Sendable {
  /// How many buffers are used at most until the driver is told.
  public var bufferCount: UInt32
  /// How long it takes at most until the driver is told of the first of them.
  public var microseconds: UInt32

  public init(bufferCount: UInt32, microseconds: UInt32) {
    self.bufferCount = bufferCount
    self.microseconds = microseconds
  }
}

/// Keeping notifications back for a while, so that a driver is told of more at once.
///
/// Whether the driver wants to be told at all is asked when the time has come. A queue that is stopped, disabled, moved to
/// other memory or paused keeps nothing back.
extension DeviceHost where Device: ~Copyable {
  /// Larger queues are always told of at once: the used index could come round to where it was last told of.
  private static var largestSize: UInt16 { 1 << 14 }

  /// Tells the driver of what is kept back and due. To be called when `remind` has said; at other times it does no harm.
  public mutating func sendHeldNotifications() {
    reminder = nil
    for index in 0..<queueCount {
      if let slot = queues.slots[index], slot.heldSince != nil { tell(index, slot) }
    }
  }

  /// Tells the driver of what was published on a queue if it wants to know, now or later.
  mutating func tell(_ index: Int, _ slot: QueueSet.Slot) {
    guard let remind, let deadline = deadline(index, slot) else { return tellNow(index, slot) }
    if let reminder, reminder <= deadline { return }
    reminder = deadline
    remind(MonotonicClock.timeLeft(until: deadline))
  }

  /// Tells the driver of all that was published on a queue, if it wants to know.
  func tellNow(_ index: Int, _ slot: QueueSet.Slot) {
    slot.heldSince = nil
    if slot.queue.needsNotification() { notify(.queue(index)) }
  }

  /// Until when a queue's notification may be kept back, which is counted from the first buffer; nil when it may not.
  private func deadline(_ index: Int, _ slot: QueueSet.Slot) -> UInt64? {
    guard isServed(index), let limits = device.notificationLimits(of: index), slot.queue.size <= Self.largestSize,
      let count = slot.queue.unnotifiedCount, count > 0, count < min(limits.bufferCount, UInt32(slot.queue.size))
    else { return nil }
    let now = MonotonicClock.now
    let since = slot.heldSince ?? now
    let deadline = since &+ UInt64(limits.microseconds) &* 1000
    guard deadline > now else { return nil }
    slot.heldSince = since
    return deadline
  }
}
