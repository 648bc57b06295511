import GuestRAM
public import LinuxIO

extension Source where Link: ~Copyable {
  /// Moves a guest that runs, and stops it only for its last pages.
  ///
  /// Memory is sent while the guest runs, then what it has written meanwhile, and so on, until what is left can be sent
  /// within the downtime limit. If the guest could not be moved it is asked to run on (`resume`) where it was to be
  /// stopped, and in any case at its full speed.
  /// - Parameters:
  ///   - notes: what the destination has to agree to before the first page is sent.
  ///   - cancellation: calls the move off until the guest is given away: at any moment if it is the connection's too,
  ///     otherwise before the next pages are looked at or the peer's next word. After that it cannot happen any more
  ///     (`Cancellation.expire`), whoever else shares it.
  ///   - permit: says when the guest may be stopped; nil for as soon as it can be.
  ///   - events: told what is expected of the move, and what becomes of it.
  ///   - recovering: gives another connection to the same destination for one that has broken after the guest was given
  ///     away, while pages still follow it (`MigrationPolicy.postcopy`); nil gives the guest up. It is asked again when
  ///     that connection fails too.
  /// - Throws: the guest runs on here unless the error's `sourceMayRun` is false.
  public consuming func move<Guest: LiveGuest & ~Copyable>(
    _ guest: inout Guest, policy: MigrationPolicy = MigrationPolicy(), notes: [GuestDescription.Note] = [],
    unless cancellation: Cancellation? = nil, awaiting permit: SwitchoverPermit? = nil,
    events: (MigrationEvent) -> Void = { _ in },
    recovering: (MigrationError) -> Link? = { _ in nil }
  ) throws(MigrationError) -> MigrationReport {
    let start = MonotonicClock.now
    var pinned: [GuestRange] = []
    defer { Self.unpin(pinned, of: guest.memory) }
    var pausedAt: UInt64?
    var late: LateSending?
    do {
      pacer = try Pacer(policy, cancellation)
      if policy.pinsMemory { pinned = try pin(guest.memory) }
      let token = try begin(guest, policy, notes)
      if policy.postcopy == .afterPasses(0) { try waitForPermit(permit, guest.memory, events) }
      let rest = try sendLive(&guest, policy, permit, events)
      events(.stopping)
      pausedAt = MonotonicClock.now
      late = try sendLast(&guest, rest, token, policy)
      try pacer.check()
    } catch {
      guest.endTracking()
      Self.keep(&guest, isStopped: pausedAt != nil)
      throw stream.giveUp(error)
    }
    // Until here every moment counts, and the end of tracking takes many.
    defer { guest.endTracking() }
    do {
      try handOver(guest.memory, late, stoppedAt: pausedAt ?? start, recovering, events)
    } catch {
      if error.sourceMayRun { Self.keep(&guest, isStopped: true) }
      throw error
    }
    report.close(since: start, wireByteCount: earlierByteCount + wireByteCount)
    report.codec = encoder?.report
    report.skippedPageCount = leftOut.byteCount / GuestPage.byteCount
    return report
  }

  /// Comes to terms with the destination.
  /// - Returns: what the move is known by if pages may follow the guest.
  private mutating func begin<Guest: LiveGuest & ~Copyable>(
    _ guest: borrowing Guest, _ policy: MigrationPolicy, _ notes: [GuestDescription.Note]
  ) throws(MigrationError) -> MoveToken? {
    sentPages = guest.sentPages
    if policy.compresses { encoder = PageEncoder(cacheByteCount: policy.cacheByteCount) }
    // What the destination holds of a page is known in the order of one connection.
    if encoder != nil || sentPages != nil { further = [] }
    try stream.sender.use(policy.zeroCopy)
    let token = try introduce(GuestDescription(regions: guest.memory.regions.map(\.range), notes: notes), policy)
    try openLanes()
    try useOnLanes(policy.zeroCopy)
    return token
  }

  /// Gives the guest away, and after it what it lacks.
  private mutating func handOver(
    _ memory: GuestMemory, _ late: LateSending?, stoppedAt moment: UInt64, _ recovering: (MigrationError) -> Link?,
    _ events: (MigrationEvent) -> Void
  ) throws(MigrationError) {
    guard var late else {
      try handOver()
      report.downtimeSeconds = MigrationReport.seconds(since: moment)
      return
    }
    var downtime: Double?
    defer { report.downtimeSeconds = downtime }
    try serve(memory, &late, recovering: recovering) {
      downtime = downtime ?? MigrationReport.seconds(since: moment)
      events(.left)
    }
  }

  /// - Returns: what was not pinned before.
  private mutating func pin(_ memory: GuestMemory) throws(MigrationError) -> [GuestRange] {
    let pinned = try inGuestMemory { () throws(GuestMemoryError) in try memory.pin() }
    if !pinned.isEmpty { report.countPinned(memory) }
    return pinned
  }

  private static func unpin(_ pinned: [GuestRange], of memory: GuestMemory) {
    // The kernel lets go of what it has pinned, and so it does in any case when the memory is unmapped.
    try? memory.unpin(pinned)
  }

  /// Lets a guest that could not be moved run on here as it did before.
  private static func keep<Guest: LiveGuest & ~Copyable>(_ guest: inout Guest, isStopped: Bool) {
    if isStopped { guest.resume() }
    guest.slowDown(to: 1)
  }

  /// Sends memory while the guest runs, if it is not all to follow it.
  private mutating func sendLive<Guest: LiveGuest & ~Copyable>(
    _ guest: inout Guest, _ policy: MigrationPolicy, _ permit: SwitchoverPermit?, _ events: (MigrationEvent) -> Void
  ) throws(MigrationError) -> LiveRest {
    if policy.postcopy == .afterPasses(0) { return .everything }
    var convergence = Convergence(policy)
    try guest.beginTracking()
    try sendFirst(&guest, policy, events)
    while true {
      let (sent, seconds) = meter.lap()
      let writes = try guest.takeWrites()
      // What it takes to find them says nothing of the connection.
      let (_, secondsToAsk) = meter.lap()
      convergence.pauseSeconds = guest.pauseSeconds
      convergence.secondsToAsk = guest.pauseSeconds > 0 ? 0 : secondsToAsk
      let step = convergence.next(sentByteCount: sent, seconds: seconds, remaining: writes.byteCount)
      report.passes.append(
        MigrationReport.Pass(
          sentByteCount: sent, seconds: seconds, remainingByteCount: writes.byteCount,
          expectedDowntimeSeconds: convergence.expectedSeconds(for: writes.byteCount), share: convergence.share))
      events(.pass(report.passes.count, report.passes[report.passes.count - 1]))
      try pacer.check()
      switch step {
      case .stop where try mayStop(permit, events): return .toSend(writes)
      case .postcopy where try mayStop(permit, events): return .toFollow(writes)
      case .stop, .postcopy:
        convergence.restart()
        meter = RateMeter()
      case .fail: throw .guest(convergence.failure(remaining: writes.byteCount))
      case .pass(let share): guest.slowDown(to: share)
      }
      try sendPass(over: writes, of: guest.memory)
    }
  }

  /// Whether the guest may be stopped now; if not, some time has passed, in which it has written more, though not so much
  /// that the destination gives up.
  private mutating func mayStop(
    _ permit: SwitchoverPermit?, _ events: (MigrationEvent) -> Void
  ) throws(MigrationError) -> Bool {
    guard let permit, try !pacer.wait(for: permit, .zero) else { return true }
    if !hasWaited { events(.waiting) }
    hasWaited = true
    _ = try pacer.wait(for: permit, min(stream.sender.limit / 4, .seconds(5)))
    return false
  }

  /// Waits until the guest may be stopped, with nothing sent but that it goes on.
  private mutating func waitForPermit(
    _ permit: SwitchoverPermit?, _ memory: GuestMemory, _ events: (MigrationEvent) -> Void
  ) throws(MigrationError) {
    while try !mayStop(permit, events) {
      if report.passCount == 0 { report.closeFirstPass(memoryByteCount: memory.byteCount) }
      try sendPass(over: [], of: memory)
    }
  }

  /// The first pass, without what the guest has no use for; tells what is to be expected once enough has been sent to
  /// know the connection's rate.
  private mutating func sendFirst<Guest: LiveGuest & ~Copyable>(
    _ guest: inout Guest, _ policy: MigrationPolicy, _ events: (MigrationEvent) -> Void
  ) throws(MigrationError) {
    guest.beginHints()
    defer { guest.endHints() }
    let watched = policy.forecasts ? try measureWrites(of: &guest) : nil
    let free = FreePages(written: watched?.ranges ?? [])
    let (memory, pauseSeconds) = (guest.memory, guest.pauseSeconds)
    let byteCount = try memory.residentPages().byteCount
    meter = RateMeter()
    sentPages?.beginSending()
    try sendAllPages(of: memory, hints: { free.usable(guest.takeHints()) }) { (rate, leftOut) in
      guard let writes = watched?.rate else { return }
      let forecast = MigrationForecast(
        of: byteCount - min(leftOut, byteCount), writes: writes, linkBytesPerSecond: rate, policy: policy,
        pauseSeconds: pauseSeconds)
      events(.forecast(forecast))
    }
  }

  /// Looks at what the guest writes before anything is sent.
  private mutating func measureWrites<Guest: LiveGuest & ~Copyable>(
    of guest: inout Guest
  ) throws(MigrationError) -> (rate: WriteRate, ranges: [GuestRange]) {
    let milliseconds: UInt64 = 50
    let start = MonotonicClock.now
    try pacer.pause(nanoseconds: milliseconds * 1_000_000)
    let first = try guest.takeWrites()
    let seconds = MigrationReport.seconds(since: start)
    try pacer.pause(nanoseconds: 3 * milliseconds * 1_000_000)
    let second = first.union(try guest.takeWrites())
    let rate = WriteRate(seconds: seconds, first: Double(first.byteCount), second: Double(second.byteCount))
    return (rate, second)
  }

  /// Stops the guest and sends what is left of it, or tells what is left, up to the point where it can be given away.
  /// - Returns: what follows the guest, if something does.
  private mutating func sendLast<Guest: LiveGuest & ~Copyable>(
    _ guest: inout Guest, _ rest: LiveRest, _ token: MoveToken?, _ policy: MigrationPolicy
  ) throws(MigrationError) -> LateSending? {
    let state = try guest.pause()
    pacer.guestHasStopped()
    let ranges: [GuestRange]
    switch rest {
    case .toSend(let written): ranges = written
    case .toFollow(let written):
      return try announce(written.union(try guest.takeWrites()), of: guest.memory, state, token, policy)
    case .everything: return try announce(nil, of: guest.memory, state, token, policy)
    }
    try sendPass(over: ranges.union(try guest.takeWrites()), of: guest.memory)
    try send(state, verifies: policy.verifies)
    if policy.verifies { try compare(guest.memory) }
    try awaitReady()
    try awaitZeroCopies()
    return nil
  }
}

/// What is left of a guest's memory when it is time to stop it.
enum LiveRest {
  /// What was written since it was sent; it goes before the guest does.
  case toSend([GuestRange])
  /// What was written since it was sent; it follows the guest.
  case toFollow([GuestRange])
  /// Nothing has been sent, and all follows the guest.
  case everything
}
