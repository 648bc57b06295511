public import GuestRAM
public import Virtqueue

/// The running queues of one device, lent to its model for a call.
public struct QueueSet: ~Copyable {
  final class Slot {
    var queue: SplitVirtqueue
    /// The model may have taken or given chains since the host last looked.
    var isTouched = true
    /// Buffers are there for which no kick will come.
    var isWaiting = false

    init(_ queue: consuming SplitVirtqueue) {
      self.queue = queue
    }
  }

  var slots: [Slot?]
  var attached: GuestMemory?

  init(count: Int) {
    slots = [Slot?](repeating: nil, count: count)
  }

  /// The memory that the queues' buffers are in. A model is not called before there is one.
  public var memory: GuestMemory {
    guard let attached else { preconditionFailure("a model was called before the guest's memory was attached") }
    return attached
  }

  /// Whether a queue may be used now: set up by the driver and not stopped.
  public func isRunning(_ index: Int) -> Bool {
    slots.indices.contains(index) && slots[index] != nil
  }

  /// A running queue. To ask for another is the model's mistake.
  public subscript(index: Int) -> SplitVirtqueue {
    _read { yield slot(index).queue }
    _modify {
      let slot = slot(index)
      slot.isTouched = true
      yield &slot.queue
    }
  }

  private func slot(_ index: Int) -> Slot {
    guard let slot = slots[index] else { preconditionFailure("a model asked for queue \(index), which does not run") }
    return slot
  }
}
