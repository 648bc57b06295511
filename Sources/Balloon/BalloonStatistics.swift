public import DeviceState

/// What a guest can tell about its memory (5.5.6.4; those from `outOfMemoryKills` on are of Linux 6.12).
public enum BalloonStatistic: UInt16, CaseIterable, StateValue {
  /// `VIRTIO_BALLOON_S_SWAP_IN`, in bytes.
  case swapIn = 0
  /// `VIRTIO_BALLOON_S_SWAP_OUT`, in bytes.
  case swapOut = 1
  /// `VIRTIO_BALLOON_S_MAJFLT`
  case majorFaults = 2
  /// `VIRTIO_BALLOON_S_MINFLT`
  case minorFaults = 3
  /// `VIRTIO_BALLOON_S_MEMFREE`: used for nothing, in bytes.
  case freeMemory = 4
  /// `VIRTIO_BALLOON_S_MEMTOT`, in bytes.
  case totalMemory = 5
  /// `VIRTIO_BALLOON_S_AVAIL`: for new programs without swapping, in bytes.
  case availableMemory = 6
  /// `VIRTIO_BALLOON_S_CACHES`, in bytes.
  case diskCaches = 7
  /// `VIRTIO_BALLOON_S_HTLB_PGALLOC`
  case hugePageAllocations = 8
  /// `VIRTIO_BALLOON_S_HTLB_PGFAIL`
  case hugePageFailures = 9
  /// `VIRTIO_BALLOON_S_OOM_KILL`
  case outOfMemoryKills = 10
  /// `VIRTIO_BALLOON_S_ALLOC_STALL`
  case allocationStalls = 11
  /// `VIRTIO_BALLOON_S_ASYNC_SCAN`, in bytes.
  case backgroundScan = 12
  /// `VIRTIO_BALLOON_S_DIRECT_SCAN`, in bytes.
  case directScan = 13
  /// `VIRTIO_BALLOON_S_ASYNC_RECLAIM`, in bytes.
  case backgroundReclaim = 14
  /// `VIRTIO_BALLOON_S_DIRECT_RECLAIM`, in bytes.
  case directReclaim = 15

  /// Whether the value is a number of bytes, and not a count of events.
  public var isByteCount: Bool {
    switch self {
    case .majorFaults, .minorFaults, .hugePageAllocations, .hugePageFailures, .outOfMemoryKills, .allocationStalls:
      false
    default: true
    }
  }
}

/// What is known of one statistic. An age is in nanoseconds, from the arrival of the report that had the value.
public enum StatisticReading: Equatable, Sendable {
  /// The driver has never reported it.
  case neverReported
  /// The driver has reported it, but not lately: it may have stopped.
  case stale(UInt64, age: UInt64)
  /// The driver has reported it no longer ago than was asked for.
  case fresh(UInt64, age: UInt64)
}

/// The values that a driver has reported, each with the time of its report.
///
/// Times are nanoseconds of a clock that never goes back. They may wrap: only differences count, so that ages carry over
/// to a host whose clock started later than the report.
struct StatisticTable: Equatable {
  private struct Entry: Equatable {
    var value: UInt64
    var time: UInt64
  }

  private var entries = [Entry?](repeating: nil, count: BalloonStatistic.allCases.count)
  /// When the last report came, whatever was in it.
  private(set) var lastReport: UInt64?

  mutating func beginReport(at time: UInt64) {
    lastReport = time
  }

  /// Notes a value; a tag that nobody knows is left alone (5.5.6.3).
  mutating func note(tag: UInt16, _ value: UInt64, at time: UInt64) {
    if let statistic = BalloonStatistic(rawValue: tag) {
      entries[Int(statistic.rawValue)] = Entry(value: value, time: time)
    }
  }

  func reading(of statistic: BalloonStatistic, at now: UInt64, freshFor limit: UInt64) -> StatisticReading {
    guard let entry = entries[Int(statistic.rawValue)] else { return .neverReported }
    let age = now &- entry.time
    return age <= limit ? .fresh(entry.value, age: age) : .stale(entry.value, age: age)
  }

  /// The table as it is saved at a moment: ages instead of times.
  func saved(at now: UInt64) -> [SavedStatistic] {
    BalloonStatistic.allCases.compactMap { statistic in
      entries[Int(statistic.rawValue)].map { SavedStatistic(statistic, value: $0.value, age: now &- $0.time) }
    }
  }

  init() {}

  init(_ saved: [SavedStatistic], lastReportAge: UInt64?, at now: UInt64) {
    for statistic in saved { note(tag: statistic.tag.rawValue, statistic.value, at: now &- statistic.age) }
    lastReport = lastReportAge.map { now &- $0 }
  }
}
