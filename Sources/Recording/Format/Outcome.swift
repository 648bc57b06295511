/// A chain that a device gave back.
struct UsedChain: Equatable, TapeRecord {
  var head: UInt32 = 0
  /// The length in the used ring.
  var byteCount: UInt32 = 0
  /// The checksum of what was written; see `QueueWatch`.
  var digest: UInt32 = 0

  mutating func code(with coder: inout some TapeCoder) throws(RecordingError) {
    try coder.number(&head)
    try coder.number(&byteCount)
    try coder.number(&digest)
  }
}

/// What a call did on one queue.
struct QueueOutcome: Equatable, TapeRecord {
  var index: UInt16 = 0
  /// The available index of the next chain to take.
  var nextAvailable: UInt16 = 0
  var used: [UsedChain] = []

  mutating func code(with coder: inout some TapeCoder) throws(RecordingError) {
    try coder.number(&index)
    try coder.number(&nextAvailable)
    try coder.list(&used)
  }
}

/// What a driver sees of a call.
struct Outcome: Equatable, TapeRecord {
  /// Why the device cannot go on; empty while it can.
  var failure = ""
  /// The configuration space, if it is not the same as before; empty if it is.
  var config: [UInt8] = []
  /// Whether a look for news found any.
  var hasFound = false
  /// Queues on which something was done.
  var queues: [QueueOutcome] = []

  mutating func code(with coder: inout some TapeCoder) throws(RecordingError) {
    try coder.text(&failure)
    try coder.bytes(&config)
    try coder.flag(&hasFound)
    try coder.list(&queues)
  }

  var isNothing: Bool { self == Outcome() }
}

/// What came of a call, and what came to the device meanwhile.
struct TapeOutcome: Equatable, TapeRecord {
  /// What the driver made available during the call. It might as well have come before.
  var patches: [Patch] = []
  var exchanges: [Exchange] = []
  var outcome = Outcome()

  mutating func code(with coder: inout some TapeCoder) throws(RecordingError) {
    try coder.list(&patches)
    try coder.list(&exchanges)
    try coder.record(&outcome)
  }
}

/// Which device it was, and how to make it again.
struct TapeSetup: Equatable, TapeRecord {
  var device: UInt32 = 0
  /// What the device's own module writes of how it was made.
  var properties: [UInt8] = []

  mutating func code(with coder: inout some TapeCoder) throws(RecordingError) {
    try coder.number(&device)
    try coder.bytes(&properties)
  }
}

/// The end, which only a whole recording has.
struct TapeEnd: Equatable, TapeRecord {
  var callCount: UInt64 = 0

  mutating func code(with coder: inout some TapeCoder) throws(RecordingError) {
    try coder.number(&callCount)
  }
}
