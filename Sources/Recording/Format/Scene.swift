import GuestRAM
import VirtioCore
import Virtqueue

/// Bytes of guest memory that a device may read in a call, as they were.
struct Patch: Equatable, TapeRecord {
  var address = GuestAddress(0)
  var bytes: [UInt8] = []

  mutating func code(with coder: inout some TapeCoder) throws(RecordingError) {
    try coder.address(&address)
    try coder.bytes(&bytes)
  }
}

/// A stretch of the guest's memory.
struct MemoryPlace: Equatable, TapeRecord {
  var start: UInt64 = 0
  var byteCount: UInt64 = 0

  mutating func code(with coder: inout some TapeCoder) throws(RecordingError) {
    try coder.number(&start)
    try coder.number(&byteCount)
  }
}

/// What has become of a queue since the call before: where it is, or that it is gone.
struct QueuePlace: Equatable, TapeRecord {
  var index: UInt16 = 0
  var isOpen = false
  /// Whether it is to be opened anew, and not only enabled or disabled.
  var isNew = false
  var isEnabled = false
  var size: UInt16 = 0
  var descriptorTable = GuestAddress(0)
  var availableRing = GuestAddress(0)
  var usedRing = GuestAddress(0)
  var nextAvailable: UInt16 = 0
  var nextUsed: UInt16 = 0

  mutating func code(with coder: inout some TapeCoder) throws(RecordingError) {
    try coder.number(&index)
    try coder.flag(&isOpen)
    try coder.flag(&isNew)
    try coder.flag(&isEnabled)
    guard isNew else { return }
    try coder.number(&size)
    try coder.address(&descriptorTable)
    try coder.address(&availableRing)
    try coder.address(&usedRing)
    try coder.number(&nextAvailable)
    try coder.number(&nextUsed)
  }

  var configuration: QueueConfiguration {
    QueueConfiguration(
      size: size, descriptorTable: descriptorTable, availableRing: availableRing, usedRing: usedRing,
      nextAvailable: nextAvailable)
  }
}

/// Whether the driver of a queue was told of used buffers after the call before, and what it had wished then. What it had
/// wished is what came from outside: a driver may change it at any moment.
struct QueueNotification: Equatable, TapeRecord {
  var index: UInt16 = 0
  var decision = NotificationDecision()

  mutating func code(with coder: inout some TapeCoder) throws(RecordingError) {
    try coder.number(&index)
    try coder.number(&decision.used)
    try coder.number(&decision.wish)
    try coder.flag(&decision.isFirst)
    try coder.flag(&decision.isDue)
  }
}

/// A call, and all that is new to the device when it comes.
struct TapeCall: Equatable, TapeRecord {
  var call = ModelCall()
  /// What was decided since the call before.
  var notifications: [QueueNotification] = []
  /// The guest's memory, if it is not the same as before; empty if it is.
  var memory: [MemoryPlace] = []
  var queues: [QueuePlace] = []
  var patches: [Patch] = []

  mutating func code(with coder: inout some TapeCoder) throws(RecordingError) {
    try coder.record(&call)
    if coder.format > TapeFrames.oldestFormat { try coder.list(&notifications) }
    try coder.list(&memory)
    try coder.list(&queues)
    try coder.list(&patches)
  }
}
