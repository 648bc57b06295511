import GuestRAM
import VirtioCore
import Virtqueue

/// What a driver and its transport have laid before a device, and what of it has been noted: the same for a device that is
/// recorded and for one that is played again, so that both are looked at in the same way.
struct ModelStage {
  private var watches: [QueueWatch?]
  private var areEnabled: [Bool]
  private var regions: [GuestRange] = []
  private var config: [UInt8] = []

  init(queueCount: Int) {
    watches = [QueueWatch?](repeating: nil, count: queueCount)
    areEnabled = [Bool](repeating: false, count: queueCount)
  }

  /// Follows what a call says by itself about queues.
  mutating func follow(_ call: ModelCall) {
    switch call.kind {
    // The first queue starts: whatever is known is of another driver.
    case .reset, .setRunning: watches = [QueueWatch?](repeating: nil, count: watches.count)
    case .resetQueue:
      if watches.indices.contains(Int(call.number)) { watches[Int(call.number)] = nil }
    default: break
    }
  }

  /// What is new since the call before.
  mutating func look(at queues: borrowing QueueSet, before call: ModelCall) throws(RecordingError) -> TapeCall {
    var record = TapeCall(call: call)
    record.notifications = takeNotifications(of: queues)
    let memory = queues.memory
    let ranges = memory.regions.map(\.range)
    if ranges != regions {
      regions = ranges
      watches = [QueueWatch?](repeating: nil, count: watches.count)
      record.memory = ranges.map { MemoryPlace(start: $0.start.rawValue, byteCount: $0.byteCount) }
    }
    var patches = PatchList()
    for index in watches.indices {
      guard queues.configuration(of: index)?.inflight == nil else { throw .tracked(queue: index) }
      if let place = lookAtPlace(of: index, queues) { record.queues.append(place) }
      try watches[index]?.noteArrivals(queues[index], memory, into: &patches)
    }
    record.patches = patches.patches
    return record
  }

  /// Of queues that are where they were.
  private mutating func takeNotifications(of queues: borrowing QueueSet) -> [QueueNotification] {
    var notifications: [QueueNotification] = []
    for index in watches.indices where watches[index] != nil {
      guard watches[index]?.configuration == queues.configuration(of: index) else { continue }
      if let decision = watches[index]?.takeDecision(queues[index]) {
        notifications.append(QueueNotification(index: UInt16(index), decision: decision))
      }
    }
    return notifications
  }

  private mutating func lookAtPlace(of index: Int, _ queues: borrowing QueueSet) -> QueuePlace? {
    let isEnabled = queues.isRunning(index)
    defer { areEnabled[index] = isEnabled }
    guard let configuration = queues.configuration(of: index) else {
      defer { watches[index] = nil }
      return watches[index].map { _ in QueuePlace(index: UInt16(index)) }
    }
    if watches[index]?.configuration == configuration {
      guard isEnabled != areEnabled[index] else { return nil }
      return QueuePlace(index: UInt16(index), isOpen: true, isEnabled: isEnabled)
    }
    watches[index] = QueueWatch(queues[index], configuration)
    return QueuePlace(
      index: UInt16(index), isOpen: true, isNew: true, isEnabled: isEnabled, size: configuration.size,
      descriptorTable: configuration.descriptorTable, availableRing: configuration.availableRing,
      usedRing: configuration.usedRing, nextAvailable: queues[index].nextAvailable, nextUsed: queues[index].nextUsed)
  }

  /// What came while the device was called.
  mutating func lookAgain(at queues: borrowing QueueSet) throws(RecordingError) -> [Patch] {
    var patches = PatchList()
    for index in watches.indices where watches[index] != nil {
      try watches[index]?.noteLateArrivals(queues[index], queues.memory, into: &patches)
    }
    return patches.patches
  }

  /// What the device has done on its queues.
  mutating func takeOutcomes(of queues: borrowing QueueSet) -> [QueueOutcome] {
    var outcomes: [QueueOutcome] = []
    for index in watches.indices where watches[index] != nil {
      if let outcome = watches[index]?.takeOutcome(queues[index], UInt16(index), queues.memory) {
        outcomes.append(outcome)
      }
    }
    return outcomes
  }

  /// The configuration space, if it is not as it was when this was asked last.
  mutating func takeConfig(_ new: [UInt8]) -> [UInt8] {
    guard new != config else { return [] }
    config = new
    return new
  }
}
