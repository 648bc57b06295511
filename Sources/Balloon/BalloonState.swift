public import DeviceState

/// All that a balloon keeps through a migration.
///
/// Not in it: hints, which belong to the migration that asked for them, and whether reclaiming is inhibited, which
/// belongs to the host.
public struct BalloonState: SavedState {
  public static let section = "balloon"
  public static let version = 1

  public var numbering = BalloonQueues.Numbering.consecutive
  /// `num_pages`, in pages of 4096 bytes.
  public var targetPages: UInt32 = 0
  /// `actual`, in pages of 4096 bytes.
  public var actualPages: UInt32 = 0
  /// `poison_val`
  public var poisonValue: UInt32 = 0
  /// `free_page_hint_cmd_id`
  public var hintCommand: UInt32 = 0
  public var hintPhase = HintPhase.idle
  /// The ID of the last round of hinting; the next is another.
  public var lastHintRound: UInt32 = 0
  /// Whether the first buffer available on the statistics queue has been read and waits to be given back.
  public var statisticsHeld = false
  /// Whether the operator wants new statistics and the driver has not been asked yet.
  public var statisticsRequested = false
  /// How often statistics are asked for, in nanoseconds; nil for never.
  public var pollInterval: UInt64?
  /// How long ago the last statistics came, in nanoseconds; nil if none have.
  public var lastReportAge: UInt64?
  public var statistics: [SavedStatistic] = []
  public var counters = BalloonCounters()

  public init() {}

  public mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("numbering", &numbering)
    try coder.field("targetPages", &targetPages)
    try coder.field("actualPages", &actualPages)
    try coder.field("poisonValue", &poisonValue)
    try coder.field("hintCommand", &hintCommand)
    try coder.field("hintPhase", &hintPhase)
    try coder.field("lastHintRound", &lastHintRound)
    try coder.field("statisticsHeld", &statisticsHeld)
    try coder.field("statisticsRequested", &statisticsRequested)
    try coder.field("pollInterval", &pollInterval)
    try coder.field("lastReportAge", &lastReportAge)
    try coder.field("statistics", &statistics)
    try coder.field("counters", &counters)
  }
}

/// One statistic at the moment of saving. The time that a migration takes does not count into the age.
public struct SavedStatistic: StateRecord {
  public var tag = BalloonStatistic.swapIn
  public var value: UInt64 = 0
  /// How long ago it was reported, in nanoseconds.
  public var age: UInt64 = 0

  public init() {}

  init(_ tag: BalloonStatistic, value: UInt64, age: UInt64) {
    self.tag = tag
    self.value = value
    self.age = age
  }

  public mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("tag", &tag)
    try coder.field("value", &value)
    try coder.field("age", &age)
  }
}

/// What the device itself has counted.
public struct BalloonCounters: StateRecord {
  /// Pages of 4096 bytes that inflate requests named, since the last reset.
  public var inflatedPages: UInt64 = 0
  /// Pages of 4096 bytes that deflate requests named, since the last reset.
  public var deflatedPages: UInt64 = 0
  /// Bytes that went back to the host by inflating, since the balloon was made.
  public var reclaimedBytes: UInt64 = 0
  /// Bytes that went back to the host by free page reporting, since the balloon was made.
  public var reportedBytes: UInt64 = 0
  /// Bytes that requests named although they are not whole pages of guest memory, since the balloon was made.
  public var ignoredBytes: UInt64 = 0
  /// Ranges that the host refused to take back, since the balloon was made.
  public var failedDiscards: UInt64 = 0

  public init() {}

  public mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("inflatedPages", &inflatedPages)
    try coder.field("deflatedPages", &deflatedPages)
    try coder.field("reclaimedBytes", &reclaimedBytes)
    try coder.field("reportedBytes", &reportedBytes)
    try coder.field("ignoredBytes", &ignoredBytes)
    try coder.field("failedDiscards", &failedDiscards)
  }
}
