import GuestRAM
import LinuxIO

/// How far a move has come.
public struct MigrationProgress: Equatable, Sendable {
  /// The pass that has just been made: 0 is the first.
  public let passNumber: Int
  /// What it has sent, in bytes of memory.
  public let sentByteCount: UInt64
  /// How long it took.
  public let seconds: Double
  /// What has been written meanwhile and is still to be sent, in bytes.
  public let remainingByteCount: UInt64
  /// How long the guest would have to stand still for that, in seconds.
  public let expectedDowntimeSeconds: Double
  /// The share of the time that the guest runs from here on.
  public let share: Double
}

extension Source where Link: ~Copyable {
  /// Moves a guest that runs, and stops it only for its last pages.
  ///
  /// Memory is sent while the guest runs, then what it has written meanwhile, and so on, until what is left can be sent
  /// within the downtime limit. The guest is asked to run on (`resume`) if it was stopped and could not be moved.
  /// - Parameters:
  ///   - notes: what the destination has to agree to before the first page is sent.
  ///   - control: by which the move can be called off.
  ///   - progress: told after each pass.
  /// - Throws: the guest runs on here unless the error's `sourceMayRun` is false.
  public consuming func move<Guest: LiveGuest & ~Copyable>(
    _ guest: inout Guest, policy: MigrationPolicy = MigrationPolicy(), notes: [GuestDescription.Note] = [],
    control: MigrationControl = MigrationControl(), progress: (MigrationProgress) -> Void = { _ in }
  ) throws(MigrationError) -> MigrationReport {
    let start = MonotonicClock.now
    var pausedAt: UInt64?
    do {
      pacer = try Pacer(policy, control)
      try introduce(GuestDescription(regions: guest.memory.regions.map(\.range), notes: notes))
      let rest = try sendLive(&guest, policy, progress)
      pausedAt = MonotonicClock.now
      try sendLast(&guest, rest, policy)
      try control.check()
    } catch {
      guest.endTracking()
      if pausedAt != nil { guest.resume() } else { guest.slowDown(to: 1) }
      throw stream.giveUp(error)
    }
    guest.endTracking()
    do {
      try handOver()
    } catch {
      if error.sourceMayRun { guest.resume() }
      throw error
    }
    report.close(since: start, wireByteCount: stream.byteCount)
    report.downtimeSeconds = pausedAt.map(MigrationReport.seconds(since:))
    return report
  }

  /// Sends memory while the guest runs.
  /// - Returns: what was written and has not been sent when it is time to stop the guest.
  private mutating func sendLive<Guest: LiveGuest & ~Copyable>(
    _ guest: inout Guest, _ policy: MigrationPolicy, _ progress: (MigrationProgress) -> Void
  ) throws(MigrationError) -> [GuestRange] {
    var convergence = Convergence(policy)
    try guest.beginTracking()
    var pass = PassMeter(report)
    try sendAllPages(of: guest.memory)
    while true {
      let writes = try guest.takeWrites()
      let (sent, seconds) = pass.lap(report)
      let step = convergence.next(sentByteCount: sent, seconds: seconds, remaining: writes.byteCount)
      progress(
        MigrationProgress(
          passNumber: report.passCount, sentByteCount: sent, seconds: seconds, remainingByteCount: writes.byteCount,
          expectedDowntimeSeconds: convergence.expectedSeconds(for: writes.byteCount), share: convergence.share))
      switch step {
      case .stop: return writes
      case .fail: throw .guest(convergence.failure(remaining: writes.byteCount))
      case .pass(let share): guest.slowDown(to: share)
      }
      try sendPass(over: writes, of: guest.memory)
    }
  }

  /// Stops the guest and sends what is left of it, up to the point where the destination could run it.
  private mutating func sendLast<Guest: LiveGuest & ~Copyable>(
    _ guest: inout Guest, _ rest: [GuestRange], _ policy: MigrationPolicy
  ) throws(MigrationError) {
    let state = try guest.pause()
    pacer.guestHasStopped()
    let writes = try guest.takeWrites()
    try sendPass(over: rest.union(writes), of: guest.memory)
    try send(state, verifies: policy.verifies)
    if policy.verifies { try compare(guest.memory) }
    _ = try stream.receive(.ready)
  }
}

/// What each pass has sent and how long it took.
private struct PassMeter {
  private var start = MonotonicClock.now
  private var dataPageCount: UInt64

  init(_ report: MigrationReport) {
    dataPageCount = report.dataPageCount
  }

  mutating func lap(_ report: MigrationReport) -> (sentByteCount: UInt64, seconds: Double) {
    defer { (start, dataPageCount) = (MonotonicClock.now, report.dataPageCount) }
    return ((report.dataPageCount - dataPageCount) * GuestPage.byteCount, MigrationReport.seconds(since: start))
  }
}
