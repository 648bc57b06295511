import VirtioCore
import Virtqueue

/// What the device keeps of the statistics queue.
struct StatisticsDesk: Equatable {
  /// The entries of one buffer that are looked at. Linux sends 16.
  static let mostEntries = 1024
  /// The shortest poll interval in nanoseconds: a millisecond.
  static let leastInterval: UInt64 = 1_000_000

  var table = StatisticTable()
  /// Whether the driver's buffer was read and waits in the ring to be given back. It is put back there rather than kept,
  /// so that the ring is the only owner and a save at any moment finds it.
  var isHeld = false
  /// Whether the operator wants new values before the next poll.
  var isRequested = false
  /// Nanoseconds between polls; nil for none.
  var pollInterval: UInt64?

  /// Whether the driver is to be asked now.
  func isDue(at now: UInt64) -> Bool {
    guard isHeld else { return false }
    return isRequested || untilPoll(at: now) == 0
  }

  /// Nanoseconds to the next poll; nil when there is none to come, or none before the driver has answered.
  func untilPoll(at now: UInt64) -> UInt64? {
    guard isHeld, let pollInterval, let last = table.lastReport else { return nil }
    let age = now &- last
    return age < pollInterval ? pollInterval - age : 0
  }

  /// The driver is gone; what the operator set stays.
  mutating func forgetReports() {
    table = StatisticTable()
    isHeld = false
  }
}

/// Memory statistics (5.5.6.3).
extension BalloonDevice {
  /// Asks the driver for statistics this long after each report; nil turns polling off.
  ///
  /// - Parameter nanoseconds: at least a millisecond is used, so that a driver is not asked without end.
  public mutating func pollStatistics(every nanoseconds: UInt64?) {
    statistics.pollInterval = nanoseconds.map { max($0, StatisticsDesk.leastInterval) }
  }

  /// Asks the driver for new statistics at the next `wake`, or takes the next that come anyway.
  public mutating func requestStatistics() {
    statistics.isRequested = true
  }

  /// How many nanoseconds from now `wake` should be called to poll; nil while there is nothing to do.
  public var timeToNextPoll: UInt64? {
    statistics.untilPoll(at: clock())
  }

  /// What is known of a statistic now.
  ///
  /// - Parameter limit: how many nanoseconds old a value may be and still count as fresh. Without it: two poll
  ///   intervals, or ten seconds if there is no polling.
  public func reading(of statistic: BalloonStatistic, freshFor limit: UInt64? = nil) -> StatisticReading {
    let (double, overflow) = (statistics.pollInterval ?? 5_000_000_000).multipliedReportingOverflow(by: 2)
    return statistics.table.reading(of: statistic, at: clock(), freshFor: limit ?? (overflow ? .max : double))
  }

  /// Reads the driver's buffer and leaves it in the ring, to be given back when new values are wanted.
  mutating func receiveStatistics(_ queue: inout SplitVirtqueue) throws(VirtqueueError) {
    guard !statistics.isHeld, var chain = try queue.next() else { return }
    let now = clock()
    let isFirst = statistics.table.lastReport == nil
    statistics.table.beginReport(at: now)
    // A driver older than version 1 sends a first buffer that it never filled.
    if features.contains(.version1) || !isFirst { try readStatistics(&chain, at: now) }
    queue.putBack(chain)
    statistics.isHeld = true
    statistics.isRequested = false
  }

  private mutating func readStatistics(_ chain: inout DescriptorChain, at now: UInt64) throws(VirtqueueError) {
    for _ in 0..<StatisticsDesk.mostEntries {
      guard let tag = try chain.read(UInt16.self), let value = try chain.read(UInt64.self) else { return }
      statistics.table.note(tag: tag, value, at: now)
    }
  }

  /// Gives the buffer back, which asks the driver for another one.
  mutating func refreshStatistics(_ queue: inout SplitVirtqueue) throws(VirtqueueError) {
    statistics.isHeld = false
    statistics.isRequested = false
    guard let chain = try queue.next() else { return }
    queue.complete(chain)
    try receiveStatistics(&queue)
  }
}
