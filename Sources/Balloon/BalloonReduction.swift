/// Shrinks a guest by its balloon, to a target or as far as the guest's own statistics allow.
///
/// It decides and does nothing itself: tell it again and again what is seen (`next`), and do what it says. Where the
/// memory available in the guest is watched it goes in steps, and looks at statistics newer than each step before the next.
/// A guest that has to kill programs or to swap gets the last step back.
public struct BalloonReduction: Equatable, Sendable {
  /// What comes next.
  public enum Step: Equatable, Sendable {
    /// Nothing is to be done before there is news, or some time has passed.
    case wait
    /// The balloon's new target.
    case set(BalloonTarget)
    /// It is over. The target is what the balloon is to be left with.
    case finish(BalloonTarget, Outcome)
  }

  /// How far it went, and why no further.
  public enum Outcome: Equatable, Sendable {
    /// The guest has the memory that it was to be left with, or less than that from the start.
    case reachedTarget
    /// No more can be taken without leaving the guest less available memory than it needs; it has this much, in bytes.
    case availableFloor(UInt64)
    /// The driver has moved no page for too long: it has nothing more to give, or does not run.
    case noProgress
    /// No statistics have come for too long, so nobody knows whether more could be taken.
    case noStatistics
    /// The guest has killed programs for want of memory, this many.
    case outOfMemoryKills(UInt64)
    /// The guest has swapped out this many bytes.
    case swapping(UInt64)
    /// It took longer than it may.
    case outOfTime
  }

  /// How much less than this there is to take does not matter, in bytes.
  private static let granule: UInt64 = 1 << 20

  private let policy: BalloonReductionPolicy
  /// The balloon that leaves the guest what it is to keep, in bytes; and so all sizes below.
  private let goal: UInt64
  /// What the driver was asked for last; nil before anything was seen.
  private var asked: UInt64?
  /// The largest balloon that has been seen to do no harm.
  private var harmless: UInt64 = 0
  private var actual: UInt64 = 0
  private var first: BalloonObservation?
  private var lastProgress: UInt64 = 0

  /// - Parameter guestByteCount: all the memory that the guest was given.
  public init(_ policy: BalloonReductionPolicy, of guestByteCount: UInt64) throws(BalloonError) {
    let target = try BalloonTarget(memoryByteCount: policy.memoryByteCount, of: guestByteCount)
    self.policy = policy
    goal = UInt64(target.pageCount) * PageRuns.pageByteCount
  }

  /// What to do about what is seen. Times never go back from one call to the next; after `finish` there is none.
  public mutating func next(_ seen: BalloonObservation) -> Step {
    let start = begin(seen)
    if let outcome = harm(seen, since: start) { return finish(at: harmless, outcome) }
    guard actual == asked else { return move(seen, since: start) }
    guard let floor = policy.leastAvailableByteCount else {
      return actual >= goal ? finish(at: actual, .reachedTarget) : ask(for: goal, at: seen.time)
    }
    guard let available = seen.available(since: lastProgress) else {
      return waitOrFinish(.noStatistics, seen, since: start)
    }
    guard available >= floor else { return finish(at: without(floor - available), .availableFloor(available)) }
    harmless = actual
    if actual >= goal { return finish(at: actual, .reachedTarget) }
    guard available - floor >= Self.granule else { return finish(at: actual, .availableFloor(available)) }
    return ask(for: min(goal, actual + wholePages(min(policy.stepByteCount, available - floor))), at: seen.time)
  }

  /// Takes in what is seen.
  /// - Returns: what was seen first.
  private mutating func begin(_ seen: BalloonObservation) -> BalloonObservation {
    let byteCount = UInt64(seen.pageCount) * PageRuns.pageByteCount
    if asked == nil {
      (asked, harmless) = (byteCount, byteCount)
      (actual, lastProgress) = (byteCount, seen.time)
    }
    if byteCount != actual { (actual, lastProgress) = (byteCount, seen.time) }
    // A count that comes for the first time tells nothing of what the balloon has done.
    let start = first.map { $0.completed(by: seen) } ?? seen
    first = start
    return start
  }

  private func harm(_ seen: BalloonObservation, since start: BalloonObservation) -> Outcome? {
    if let kills = seen.outOfMemoryKills, let before = start.outOfMemoryKills, kills > before {
      return .outOfMemoryKills(kills - before)
    }
    guard let swapped = seen.swappedOutByteCount, let before = start.swappedOutByteCount, swapped > before,
      swapped - before > policy.mostSwapByteCount
    else { return nil }
    return .swapping(swapped - before)
  }

  /// The driver is on its way to the last target.
  private mutating func move(_ seen: BalloonObservation, since start: BalloonObservation) -> Step {
    if let floor = policy.leastAvailableByteCount, let available = seen.available(since: lastProgress),
      available < floor
    {
      return finish(at: without(floor - available), .availableFloor(available))
    }
    return waitOrFinish(.noProgress, seen, since: start)
  }

  private mutating func waitOrFinish(_ outcome: Outcome, _ seen: BalloonObservation, since start: BalloonObservation)
    -> Step
  {
    if seen.time &- start.time >= policy.limit { return finish(at: actual, .outOfTime) }
    return seen.time &- lastProgress >= policy.patience ? finish(at: actual, outcome) : .wait
  }

  private mutating func ask(for byteCount: UInt64, at time: UInt64) -> Step {
    (asked, lastProgress) = (byteCount, time)
    return .set(target(byteCount))
  }

  private func finish(at byteCount: UInt64, _ outcome: Outcome) -> Step {
    .finish(target(byteCount), outcome)
  }

  /// The balloon less so many bytes, and those to the next whole page.
  private func without(_ byteCount: UInt64) -> UInt64 {
    byteCount < actual ? wholePages(actual - byteCount) : 0
  }

  private func wholePages(_ byteCount: UInt64) -> UInt64 { byteCount & ~(PageRuns.pageByteCount - 1) }

  private func target(_ byteCount: UInt64) -> BalloonTarget {
    BalloonTarget(pageCount: UInt32(clamping: byteCount / PageRuns.pageByteCount))
  }
}

extension BalloonReduction.Outcome: CustomStringConvertible {
  public var description: String {
    switch self {
    case .reachedTarget: "the target was reached"
    case .availableFloor(let available): "the guest has only \(available >> 20) MiB available"
    case .noProgress: "the guest gave no more pages"
    case .noStatistics: "the guest sent no statistics"
    case .outOfMemoryKills(let count): "the guest killed \(count) programs for want of memory"
    case .swapping(let byteCount): "the guest swapped out \(byteCount >> 20) MiB"
    case .outOfTime: "the time for it was over"
    }
  }
}
