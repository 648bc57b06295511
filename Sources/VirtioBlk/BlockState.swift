public import DeviceState

/// All that a block device keeps through a migration. What is on the disk travels by itself, or is shared.
public struct BlockState: SavedState {
  public static let section = "block"
  public static let version = 1

  /// The capacity that the driver was told, in sectors of 512 bytes.
  public var capacitySectors: UInt64 = 0
  /// `writeback`: whether what is written may stay in a cache until the next flush.
  public var writeback = true
  /// Whether a flush has failed, after which nobody can tell any more what is on the medium.
  public var flushFailed = false
  public var counters = BlockCounters()

  public init() {}

  public mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("capacitySectors", &capacitySectors)
    try coder.field("writeback", &writeback)
    try coder.field("flushFailed", &flushFailed)
    try coder.field("counters", &counters)
  }
}

/// What a block device has counted since it was made.
public struct BlockCounters: StateRecord {
  public var reads: UInt64 = 0
  public var readBytes: UInt64 = 0
  public var writes: UInt64 = 0
  public var writtenBytes: UInt64 = 0
  public var flushes: UInt64 = 0
  public var discards: UInt64 = 0
  public var zeroWrites: UInt64 = 0
  /// Requests answered with `VIRTIO_BLK_S_IOERR`.
  public var failures: UInt64 = 0
  /// Requests answered with `VIRTIO_BLK_S_UNSUPP`.
  public var unsupported: UInt64 = 0

  public init() {}

  public mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("reads", &reads)
    try coder.field("readBytes", &readBytes)
    try coder.field("writes", &writes)
    try coder.field("writtenBytes", &writtenBytes)
    try coder.field("flushes", &flushes)
    try coder.field("discards", &discards)
    try coder.field("zeroWrites", &zeroWrites)
    try coder.field("failures", &failures)
    try coder.field("unsupported", &unsupported)
  }

  mutating func count(_ request: BlockRequest, _ status: BlockRequest.Status) {
    switch status {
    case .done: countDone(request)
    case .failed: failures &+= 1
    case .unsupported: unsupported &+= 1
    }
  }

  private mutating func countDone(_ request: BlockRequest) {
    switch request.kind {
    case .read:
      reads &+= 1
      readBytes &+= UInt64(request.dataByteCount)
    case .write:
      writes &+= 1
      writtenBytes &+= UInt64(request.dataByteCount)
    case .flush: flushes &+= 1
    case .discard: discards &+= 1
    case .writeZeroes: zeroWrites &+= 1
    case .identify, nil: break
    }
  }
}
