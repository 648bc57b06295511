public import GuestRAM
public import Virtqueue

/// The running queues of one device, lent to its model for a call.
public struct QueueSet: ~Copyable {
  final class Slot {
    var queue: SplitVirtqueue
    /// The model may have taken or given chains since the host last looked.
    var isTouched = false
    /// The driver was not asked for kicks since the queue was last served.
    var lacksKicks = false
    /// Buffers are there for which no kick will come.
    var isWaiting = false
    /// Since when the driver was to be told of used buffers, and is not yet; nil when it was told of all.
    var heldSince: UInt64?
    /// Where the queue is.
    let configuration: QueueConfiguration
    /// How many chains were taken before the start and not given back: nobody here has them.
    private let lostCount: UInt16

    init(_ queue: consuming SplitVirtqueue, _ configuration: QueueConfiguration) {
      lostCount = queue.inFlightCount
      self.queue = queue
      self.configuration = configuration
    }

    /// How many chains the model has.
    var inFlightCount: UInt16 { queue.inFlightCount &- lostCount }

    /// The available index to go on from when the model has none, or has dropped all that it had.
    var restingIndex: UInt16 { queue.nextUsed &+ lostCount }
  }

  var slots: [Slot?]
  var areEnabled: [Bool]
  var isPaused = false
  var attached: GuestMemory?
  /// The model has done enough for one call.
  var isTurnOver = false
  /// The model has only let the driver have its answers.
  var isInterlude = false

  init(count: Int) {
    slots = [Slot?](repeating: nil, count: count)
    areEnabled = [Bool](repeating: true, count: count)
  }

  /// The memory that the queues' buffers are in. A model is not called before there is one.
  public var memory: GuestMemory {
    guard let attached else { preconditionFailure("a model was called before the guest's memory was attached") }
    return attached
  }

  /// Whether chains may be taken from a queue now: it was started, and neither it is disabled nor the device paused.
  public func isRunning(_ index: Int) -> Bool {
    slots.indices.contains(index) && slots[index] != nil && areEnabled[index] && !isPaused
  }

  /// What a queue was opened with, in the memory that there is now; nil for one that was not started, or was stopped.
  public func configuration(of index: Int) -> QueueConfiguration? {
    slots.indices.contains(index) ? slots[index]?.configuration : nil
  }

  /// A queue that was started and not stopped; to ask for another is the model's mistake. Chains in flight may be given
  /// back to it even when it does not run.
  public subscript(index: Int) -> SplitVirtqueue {
    _read { yield slot(index).queue }
    _modify {
      let slot = slot(index)
      slot.isTouched = true
      yield &slot.queue
    }
  }

  /// Ends the model's turn after this call, though chains are left on a queue: it is served again once the device's
  /// thread has done what else there is to do. For requests that take long, of which a driver may make many.
  public mutating func serveLater(_ index: Int) {
    slots[index]?.isWaiting = true
    isTurnOver = true
  }

  /// Ends this call, so that the driver gets what was given back, and goes on with the queue in the next. For requests that
  /// take long enough for the driver to do something with their answers meanwhile.
  public mutating func serveNext(_ index: Int) {
    slots[index]?.isWaiting = true
    isInterlude = true
  }

  private func slot(_ index: Int) -> Slot {
    guard let slot = slots[index] else { preconditionFailure("a model asked for queue \(index), which is not set up") }
    return slot
  }
}
