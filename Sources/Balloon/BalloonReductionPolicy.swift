/// How far a guest is shrunk, and what is taken as a sign to stop. Times are in nanoseconds.
public struct BalloonReductionPolicy: Equatable, Sendable {
  /// The memory that the guest is to be left with, in bytes: at least a page, in whole pages less than it has.
  public var memoryByteCount: UInt64
  /// The memory that has to stay available in the guest by its own word (`VIRTIO_BALLOON_S_AVAIL`), in bytes; nil when
  /// that is not looked at.
  public var leastAvailableByteCount: UInt64?
  /// The most that is taken at a time where available memory is looked at, in bytes; at least a page is.
  public var stepByteCount: UInt64
  /// The most that the guest may swap out meanwhile, in bytes.
  public var mostSwapByteCount: UInt64
  /// How long the driver may move no page, or send no statistics.
  public var patience: UInt64
  /// How long all of it may take; once it is over no further wait begins.
  public var limit: UInt64

  public init(
    memoryByteCount: UInt64, leastAvailableByteCount: UInt64? = nil, stepByteCount: UInt64 = 128 << 20,
    mostSwapByteCount: UInt64 = 16 << 20, patience: UInt64 = 5_000_000_000, limit: UInt64 = 120_000_000_000
  ) {
    self.memoryByteCount = memoryByteCount
    self.leastAvailableByteCount = leastAvailableByteCount
    self.stepByteCount = max(PageRuns.pageByteCount, stepByteCount)
    self.mostSwapByteCount = mostSwapByteCount
    self.patience = patience
    self.limit = limit
  }
}

/// What is seen of a balloon at a moment.
public struct BalloonObservation: Equatable, Sendable {
  /// The moment, in nanoseconds of a clock that never goes back.
  public var time: UInt64
  /// What the driver says is in the balloon (`actual`), in pages of 4096 bytes.
  public var pageCount: UInt32
  /// The last word on available memory.
  public var available: StatisticReading
  /// How many programs the guest has ever killed for want of memory; nil if it does not say.
  public var outOfMemoryKills: UInt64?
  /// What the guest has ever swapped out, in bytes; nil if it does not say.
  public var swappedOutByteCount: UInt64?

  public init(
    time: UInt64, pageCount: UInt32, available: StatisticReading = .neverReported, outOfMemoryKills: UInt64? = nil,
    swappedOutByteCount: UInt64? = nil
  ) {
    self.time = time
    self.pageCount = pageCount
    self.available = available
    self.outOfMemoryKills = outOfMemoryKills
    self.swappedOutByteCount = swappedOutByteCount
  }

  /// The available memory in bytes, if it was reported after a moment.
  func available(since moment: UInt64) -> UInt64? {
    switch available {
    case .neverReported: nil
    case .stale(let value, let age), .fresh(let value, let age): time &- moment > age ? value : nil
    }
  }

  /// The same, with what it does not know filled in.
  func completed(by later: BalloonObservation) -> BalloonObservation {
    var completed = self
    completed.outOfMemoryKills = outOfMemoryKills ?? later.outOfMemoryKills
    completed.swappedOutByteCount = swappedOutByteCount ?? later.swappedOutByteCount
    return completed
  }
}

extension BalloonDevice {
  /// What there is to see now, for `BalloonReduction`. Have statistics polled or requested meanwhile.
  public var observation: BalloonObservation {
    BalloonObservation(
      time: clock(), pageCount: actualPageCount, available: reading(of: .availableMemory),
      outOfMemoryKills: reading(of: .outOfMemoryKills).value, swappedOutByteCount: reading(of: .swapOut).value)
  }
}

extension StatisticReading {
  /// The value that was reported last, however old it is; nil when there was none.
  public var value: UInt64? {
    switch self {
    case .neverReported: nil
    case .stale(let value, _), .fresh(let value, _): value
    }
  }
}
