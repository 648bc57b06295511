import Balloon
import LinuxIO
import Options

/// Shrinking a guest before it is moved, by the rule of `BalloonReduction`.
extension QemuBalloon {
  /// What has become of a guest that was asked to shrink. Sizes are in bytes.
  struct Shrinking: Equatable {
    let asked: UInt64
    /// What the guest has now, and may not go below.
    let after: UInt64
    /// Whether the guest has no more than it was to keep: what was asked for, or what its statistics allow.
    let isComplete: Bool
    /// Why it went no further.
    let reason: String
  }

  /// How far a guest is to be shrunk.
  private struct Plan {
    let asked: UInt64
    let leastAvailable: UInt64?
    /// What is to be said of it at the end.
    var remark = ""
  }

  /// What a guest keeps available unless told otherwise, in bytes; or an eighth of what it needs, if that is more.
  private static let leastSpare: UInt64 = 48 << 20
  private static let pageByteCount: UInt64 = 4096
  /// How long all of it may take.
  private static let limit = Duration.seconds(600)

  /// Asks the guest to shrink, and waits until it has, gives no more, or should give no more by its own statistics. Then
  /// it is to keep what it has, so that nothing changes while it is moved.
  /// - Parameters:
  ///   - wish: what it is to keep; auto for what it needs, with what is to stay available.
  ///   - leastAvailable: what has to stay available in it, in bytes, where it tells that.
  ///   - progress: told what it has, and what it is to keep.
  /// - Returns: nil where it does not tell what it needs, and so is left alone.
  func shrink(
    to wish: SizeOrAuto, keeping leastAvailable: UInt64? = nil, unless cancellation: Cancellation,
    _ progress: (_ now: UInt64, _ asked: UInt64) -> Void = { (_, _) in }
  ) throws -> Shrinking? {
    var statistics = try self.statistics()
    defer { statistics?.end() }
    guard let before = try size,
      let plan = try self.plan(wish, leastAvailable, before, &statistics, cancellation)
    else { return nil }
    var reduction = try BalloonReduction(policy(for: plan, before), of: before)
    while true {
      try statistics?.look()
      let now = try size ?? before
      progress(now, plan.asked)
      switch reduction.next(observation(of: now, before, statistics)) {
      case .wait: try cancellation.wait(Self.interval)
      case .set(let target): try set(target.memoryByteCount(of: before))
      case .finish(let target, let outcome):
        let after = try change(to: target.memoryByteCount(of: before), unless: cancellation)
        return Self.shrinking(plan, after, outcome, isAuto: wish == .auto)
      }
    }
  }

  private func plan(
    _ wish: SizeOrAuto, _ leastAvailable: UInt64?, _ size: UInt64, _ statistics: inout QemuStatistics?,
    _ cancellation: Cancellation
  ) throws(QmpError) -> Plan? {
    // Also where nothing depends on it: what has been swapped out before this is not our doing.
    let available = try statistics?.nextAvailable(within: patience, unless: cancellation)
    switch wish {
    case .size(let wanted):
      let asked = Self.wholePages(wanted.bytes, of: size)
      guard available == nil, leastAvailable != nil else { return Plan(asked: asked, leastAvailable: leastAvailable) }
      return Plan(asked: asked, leastAvailable: nil, remark: ", and it does not tell what it has available")
    case .auto:
      guard let available, available <= size else { return nil }
      let needed = size - available
      let spare = leastAvailable ?? max(Self.leastSpare, needed / 8)
      let asked = needed.addingReportingOverflow(spare)
      return Plan(asked: Self.wholePages(asked.overflow ? .max : asked.partialValue, of: size), leastAvailable: spare)
    }
  }

  /// At most all that it has, at least a page, and whole pages less than all.
  private static func wholePages(_ byteCount: UInt64, of size: UInt64) -> UInt64 {
    let kept = max(pageByteCount, min(byteCount, size))
    return kept < size ? size - (size - kept) / pageByteCount * pageByteCount : size
  }

  private func policy(for plan: Plan, _ before: UInt64) -> BalloonReductionPolicy {
    var policy = BalloonReductionPolicy(
      memoryByteCount: plan.asked, leastAvailableByteCount: plan.leastAvailable, patience: patience.wholeNanoseconds,
      limit: Self.limit.wholeNanoseconds)
    // QEMU has news only once a second, and a large guest should not take for ever.
    policy.stepByteCount = max(policy.stepByteCount, (before - plan.asked) / 8)
    return policy
  }

  private func observation(of now: UInt64, _ before: UInt64, _ statistics: QemuStatistics?) -> BalloonObservation {
    let pageCount = UInt32(clamping: (before - min(now, before)) / Self.pageByteCount)
    return statistics?.observation(pageCount: pageCount)
      ?? BalloonObservation(time: MonotonicClock.now, pageCount: pageCount)
  }

  private static func shrinking(
    _ plan: Plan, _ after: UInt64, _ outcome: BalloonReduction.Outcome, isAuto: Bool
  ) -> Shrinking {
    var isComplete = after <= plan.asked
    if case .availableFloor = outcome, isAuto { isComplete = true }
    return Shrinking(asked: plan.asked, after: after, isComplete: isComplete, reason: "\(outcome)\(plan.remark)")
  }
}

extension Duration {
  fileprivate var wholeNanoseconds: UInt64 { UInt64(max(0, self / Duration.nanoseconds(1))) }
}
