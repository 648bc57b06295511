public import GuestRAM

/// A balloon's numbers, each from whoever knows it.
public struct BalloonReport: Equatable, Sendable {
  /// The memory that the guest is to have, in bytes: what the operator asked for.
  public let targetByteCount: UInt64
  /// The memory that the guest has, in bytes: what the driver says (`actual`).
  public let actualByteCount: UInt64
  /// The bytes in the balloon by the requests that came: inflated less deflated.
  public let inflatedByteCount: UInt64
  /// The bytes that went back to the host by inflating, ever: what the reclaimer counted.
  public let reclaimedByteCount: UInt64
  /// The bytes that went back to the host by free page reporting, ever.
  public let reportedByteCount: UInt64
  /// The bytes that requests named in vain, as they are not whole pages of guest memory.
  public let ignoredByteCount: UInt64
  /// The host memory behind the guest, in bytes: what the kernel says.
  public let residentByteCount: UInt64
  /// What is wrong with the numbers, if anything.
  public let warning: BalloonWarning?
}

/// Why a balloon does not do what it is there for.
public enum BalloonWarning: Equatable, Sendable {
  /// The host refused to take pages back, so many times; the last time for this reason.
  case discardsFailed(count: UInt64, GuestMemoryError)
  /// The guest gave pages up while reclaiming was inhibited, so they stayed.
  case reclaimInhibited(inflatedByteCount: UInt64)
  /// The guest gave pages up, and no less host memory is behind it than before.
  case residentNotLowered(inflatedByteCount: UInt64, before: UInt64, after: UInt64)
}

extension BalloonWarning: CustomStringConvertible {
  public var description: String {
    switch self {
    case .discardsFailed(let count, let error): "the host refused to take pages back, \(count) times; last: \(error)"
    case .reclaimInhibited(let inflated):
      "the guest gave up \(inflated) bytes while reclaiming was inhibited; they stay with it"
    case .residentNotLowered(let inflated, let before, let after):
      "the guest gave up \(inflated) bytes, but the host memory behind it went from \(before) to \(after) bytes"
    }
  }
}

/// A moment to compare a later one with.
public struct BalloonMoment: Equatable, Sendable {
  let residentByteCount: UInt64
  let inflatedByteCount: UInt64
  let failedDiscards: UInt64
}

extension BalloonDevice {
  /// Sets how much memory the guest is to have. Call it in the host's `update`, which tells the driver.
  public mutating func setTarget(_ target: BalloonTarget) {
    fields.targetPages = target.pageCount
  }

  /// What the operator asked for last.
  public var target: BalloonTarget { BalloonTarget(pageCount: fields.targetPages) }

  /// The pages that the driver says are in the balloon: `actual`.
  public var actualPageCount: UInt32 { fields.actualPages }

  /// Notes where things stand before a change, with the host memory behind the guest as just measured.
  public func moment(residentByteCount: UInt64) -> BalloonMoment {
    BalloonMoment(
      residentByteCount: residentByteCount, inflatedByteCount: inflatedByteCount,
      failedDiscards: counters.failedDiscards)
  }

  /// The balloon's numbers now, and what is wrong with them.
  ///
  /// - Parameters:
  ///   - guestByteCount: all the memory that the guest was given.
  ///   - residentByteCount: the host memory behind it, as just measured.
  ///   - before: what to compare with.
  public func report(
    guestByteCount: UInt64, residentByteCount: UInt64, since before: BalloonMoment
  ) -> BalloonReport {
    BalloonReport(
      targetByteCount: target.memoryByteCount(of: guestByteCount),
      actualByteCount: BalloonTarget(pageCount: fields.actualPages).memoryByteCount(of: guestByteCount),
      inflatedByteCount: inflatedByteCount, reclaimedByteCount: counters.reclaimedBytes,
      reportedByteCount: counters.reportedBytes, ignoredByteCount: counters.ignoredBytes,
      residentByteCount: residentByteCount, warning: warning(residentByteCount, since: before))
  }

  private func warning(_ resident: UInt64, since before: BalloonMoment) -> BalloonWarning? {
    if let lastFailure, counters.failedDiscards != before.failedDiscards {
      return .discardsFailed(count: counters.failedDiscards &- before.failedDiscards, lastFailure)
    }
    guard inflatedByteCount > before.inflatedByteCount, resident >= before.residentByteCount else { return nil }
    let inflated = inflatedByteCount - before.inflatedByteCount
    if isReclaimInhibited { return .reclaimInhibited(inflatedByteCount: inflated) }
    return .residentNotLowered(inflatedByteCount: inflated, before: before.residentByteCount, after: resident)
  }

  /// A driver may deflate what it never inflated, and a state may claim anything, so nothing here may trap.
  private var inflatedByteCount: UInt64 {
    let pages = counters.inflatedPages.subtractingReportingOverflow(counters.deflatedPages)
    let bytes = pages.partialValue.multipliedReportingOverflow(by: PageRuns.pageByteCount)
    return pages.overflow || bytes.overflow ? 0 : bytes.partialValue
  }
}
