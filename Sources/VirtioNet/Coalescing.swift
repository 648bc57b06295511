import DeviceState
import VirtioCore

/// How long notifications may be kept back, as the driver has asked for (5.1.6.5.9); nothing at first.
struct Coalescing: StateRecord {
  /// `struct virtio_net_ctrl_coal`
  struct Limits: StateRecord {
    var packets: UInt32 = 0
    var microseconds: UInt32 = 0

    init() {}

    mutating func code(with coder: inout some StateCoder) throws(StateError) {
      try coder.field("packets", &packets)
      try coder.field("microseconds", &microseconds)
    }

    /// What the host is to keep to. A packet that takes several buffers counts as so many: the driver is told earlier then,
    /// as a device may.
    var notificationLimits: NotificationLimits? {
      guard packets > 1, microseconds > 0 else { return nil }
      return NotificationLimits(bufferCount: packets, microseconds: microseconds)
    }
  }

  /// What one queue has of its own.
  struct QueueLimits: StateRecord {
    var queue: UInt16 = 0
    var limits = Limits()

    init() {}

    mutating func code(with coder: inout some StateCoder) throws(StateError) {
      try coder.field("queue", &queue)
      try coder.field("limits", &limits)
    }
  }

  /// Of each receive queue that has no other.
  private(set) var receive = Limits()
  /// Of each transmit queue that has no other.
  private(set) var transmit = Limits()
  /// Of queues for which others were set later than for all.
  var queues: [QueueLimits] = []

  init() {}

  mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("receive", &receive)
    try coder.field("transmit", &transmit)
    try coder.field("queues", &queues, since: 2, else: [])
  }

  /// What applies to a receive or transmit queue.
  subscript(queue: Int) -> Limits {
    queues.first { Int($0.queue) == queue }?.limits ?? (queue % 2 == 0 ? receive : transmit)
  }

  /// Sets what applies to all receive queues.
  mutating func setReceive(_ limits: Limits) {
    receive = limits
    queues.removeAll { $0.queue % 2 == 0 }
  }

  /// Sets what applies to all transmit queues.
  mutating func setTransmit(_ limits: Limits) {
    transmit = limits
    queues.removeAll { $0.queue % 2 == 1 }
  }

  /// Sets what applies to one queue.
  mutating func set(_ limits: Limits, queue: Int) {
    forget(queue: queue)
    var own = QueueLimits()
    own.queue = UInt16(queue)
    own.limits = limits
    queues.append(own)
  }

  /// Back to what applies to all queues of its kind.
  mutating func forget(queue: Int) {
    queues.removeAll { Int($0.queue) == queue }
  }

  /// Whether every field could have come from a driver of a card with so many pairs of queues.
  func isPossible(pairCount: Int) -> Bool {
    Set(queues.map(\.queue)).count == queues.count && queues.allSatisfy { Int($0.queue) < 2 * pairCount }
  }
}
