import Balloon
import GuestRAM
import LinuxIO
import SimulatedGuest
import VirtioCore

/// Shrinking a guest while it works, and growing it back.
extension Machine {
  /// How long its driver may move no page and send no statistics, in nanoseconds.
  private static let patience: UInt64 = 2_000_000_000

  /// Takes memory from the guest until it has no more than it is to keep, or as its own statistics allow.
  ///
  /// - Parameter leastAvailable: the memory that has to stay available in the guest; nil if that is not looked at.
  mutating func shrink(
    to byteCount: UInt64, leastAvailable: UInt64?, progress: (String) throws -> Void
  ) throws -> ShrinkView {
    let policy = BalloonReductionPolicy(
      memoryByteCount: byteCount, leastAvailableByteCount: leastAvailable, patience: Self.patience)
    var reduction = try BalloonReduction(policy, of: memory.byteCount)
    before = transport.host.device.moment(residentByteCount: try memory.residentByteCount())
    var (pace, start) = (Pace(), MonotonicClock.now)
    defer { guest.pagesPerStep = Self.pagesPerStep }
    while true {
      switch reduction.next(transport.host.device.observation) {
      case .wait: break
      case .set(let target): transport.host.update { $0.setTarget(target) }
      case .finish(let target, let outcome):
        try settle(at: target, &pace, progress)
        return ShrinkView(
          guestBytes: target.memoryByteCount(of: memory.byteCount), isComplete: outcome == .reachedTarget,
          reason: "\(outcome)", seconds: Double(MonotonicClock.now - start) / 1e9, steps: pace.work.count,
          progress: pace.work.samples)
      }
      try step(&pace, progress)
    }
  }

  /// Gives the guest all of its memory back.
  /// - Returns: how long it took, in seconds.
  mutating func grow(_ progress: (String) throws -> Void) throws -> Double {
    let start = MonotonicClock.now
    var pace = Pace()
    defer { guest.pagesPerStep = Self.pagesPerStep }
    try settle(at: BalloonTarget(pageCount: 0), &pace, progress)
    guard transport.host.device.actualPageCount == 0 else {
      throw DemoError.notVerified("the guest did not take its memory back")
    }
    return Double(MonotonicClock.now - start) / 1e9
  }

  /// Lets the guest run until its balloon has a size that it can have, or its driver does no more.
  private mutating func settle(
    at target: BalloonTarget, _ pace: inout Pace, _ progress: (String) throws -> Void
  ) throws {
    transport.host.update { $0.setTarget(target) }
    var (last, moved) = (transport.host.device.actualPageCount, MonotonicClock.now)
    while last != target.pageCount, MonotonicClock.now - moved < Self.patience {
      try step(&pace, progress)
      let actual = transport.host.device.actualPageCount
      if actual != last { (last, moved) = (actual, MonotonicClock.now) }
    }
  }

  /// The guest's programs work at their own pace; in the time between, its driver moves pages.
  private mutating func step(_ pace: inout Pace, _ progress: (String) throws -> Void) throws {
    transport.host.update { $0.requestStatistics() }
    transport.host.wake()
    let isWorkDue = pace.isWorkDue
    guest.pagesPerStep = isWorkDue ? Self.pagesPerPacedStep : 0
    try guest.step()
    if isWorkDue { pace.worked() }
    let (actual, target) = (transport.host.device.actualPageCount, transport.host.device.target.pageCount)
    try progress("the balloon holds \(Size(UInt64(actual) * 4096)) of \(Size(UInt64(target) * 4096))")
  }
}

/// When a guest that is doing something else is to do its next step of work.
private struct Pace {
  private(set) var work = StepMeter()
  private var last = MonotonicClock.now

  var isWorkDue: Bool { MonotonicClock.now - last >= Machine.stepNanoseconds }

  mutating func worked() {
    last = MonotonicClock.now
    work.step()
  }
}
