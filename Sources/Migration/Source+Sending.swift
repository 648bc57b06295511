import GuestRAM
import LinuxIO

/// What a source sends, part by part.
extension Source where Link: ~Copyable {
  /// - Parameter kind: what the description comes as.
  /// - Returns: what this move is known by, if the guest may run before all of its pages are there.
  @discardableResult
  mutating func introduce(
    _ description: GuestDescription, _ policy: MigrationPolicy = MigrationPolicy(), as kind: FrameKind = .description
  ) throws(MigrationError) -> MoveToken? {
    try stream.open(Hello(.source, producer: producer))
    let token = try announcePostcopy(policy)
    try stream.send(kind, description.payload)
    guard stream.hasReturnPath else { return nil }
    guard try stream.receiveHello().role == .destination else { throw .sameRole }
    _ = try stream.receive(.accept)
    return token
  }

  // MARK: - Memory and state

  /// Sends all pages that have memory behind them: the first pass, and the only one for a guest that does not run.
  /// - Parameters:
  ///   - hints: pages that need not be sent after all, asked for again and again; rising and not overlapping.
  ///   - measured: told the connection's rate, in bytes a second, once enough has been sent to know it, and how many
  ///     bytes need not be sent as far as is known by then.
  mutating func sendAllPages(
    of memory: GuestMemory, hints: () -> [GuestRange] = { [] }, measured: (Double, UInt64) -> Void = { _, _ in }
  ) throws(MigrationError) {
    encoder?.startRound()
    try sendPages(PageSweep(memory), of: memory, hints, measured)
    try endPassOnLanes()
    report.skippedPageCount = leftOut.byteCount / GuestPage.byteCount
    report.closeFirstPass(memoryByteCount: memory.byteCount)
  }

  /// Sends what was written since the pass before.
  mutating func sendPass(over ranges: [GuestRange], of memory: GuestMemory) throws(MigrationError) {
    report.passCount += 1
    try stream.send(.pass, Pass.payload(UInt32(report.passCount)))
    encoder?.startRound()
    leftOut = leftOut.subtracting(ranges)
    let pieces = ranges.pieces(resident: try memory.residentPages(near: ranges))
    try sendPages(PageSweep(memory, of: pieces), of: memory)
    try endPassOnLanes()
  }

  /// Announces pages one stretch ahead of their data, so that the destination can have memory ready for them.
  mutating func sendPages(
    _ sweep: consuming PageSweep, of memory: GuestMemory, _ hints: () -> [GuestRange] = { [] },
    _ measured: (Double, UInt64) -> Void = { _, _ in }
  ) throws(MigrationError) {
    // What is little is sent before a thread has started.
    if !lanes.isEmpty, encoder == nil, !sweep.isShort { return try sendOverLanes(sweep, of: memory, hints, measured) }
    var sweep = sweep
    leftOut = leftOut.union(sweep.leaveOut(hints()))
    var runs = try plan(&sweep)
    while !runs.isEmpty {
      leftOut = leftOut.union(sweep.leaveOut(hints()))
      let following = try plan(&sweep)
      try sendData(of: runs, memory)
      if let rate = meter.newRate() { measured(rate, leftOut.byteCount) }
      runs = following
    }
  }

  private mutating func plan(_ sweep: inout PageSweep) throws(MigrationError) -> [PageRun] {
    try pacer.check()
    let runs = try sweep.next()
    if !runs.isEmpty { try stream.send(.plan, PageRun.payload(runs)) }
    report.count(runs)
    for run in runs where run.isZero {
      encoder?.forget(run)
      sentPages?.noteZeros(run)
    }
    return runs
  }

  private mutating func sendData(of runs: [PageRun], _ memory: GuestMemory) throws(MigrationError) {
    for frame in PageFrame.frames(of: runs) { try sendFrame(frame, of: memory) }
  }

  private mutating func sendFrame(_ frame: PageFrame, of memory: GuestMemory) throws(MigrationError) {
    if let encoder {
      let payload = try encoder.payload(
        of: frame, memory, linkSpeed: min(meter.linkSpeed, pacer.mostBytesPerSecond), noting: sentPages)
      try pacer.wait(toSend: payload.count)
      let start = MonotonicClock.now
      try stream.send(.encoded, payload)
      meter.noteLink(payload.count, since: start)
    } else {
      try pacer.wait(toSend: frame.byteCount)
      try stream.sender.sendPages(frame, of: memory, through: pacer.stage, noting: sentPages)
    }
    meter.add(frame.byteCount)
  }

  /// - Parameter verifies: whether the destination is to tell what it holds, if it can.
  mutating func send(_ state: [UInt8], verifies: Bool) throws(MigrationError) {
    for start in stride(from: 0, to: state.count, by: FrameKind.state.mostPayload) {
      try stream.send(.state, Array(state[start...].prefix(FrameKind.state.mostPayload)))
    }
    report.stateByteCount = UInt64(state.count)
    let completion = Completion(
      dataPageCount: report.dataPageCount, zeroPageCount: report.zeroPageCount,
      outstandingPageCount: report.outstandingPageCount, stateByteCount: report.stateByteCount,
      stateDigest: GuestMemory.digest(of: state), isToVerify: verifies && stream.hasReturnPath)
    try stream.send(.complete, completion.payload)
  }

  mutating func compare(_ memory: GuestMemory) throws(MigrationError) {
    guard stream.hasReturnPath else { return }
    var check = try PageCheck(memory, leftOut: leftOut)
    while true {
      try pacer.check()
      let frame = try stream.receive()
      if frame.kind == .digestsEnd { break }
      guard frame.kind == .digests else { throw .unexpectedFrame(frame.kind) }
      try check.compare(PageDigests(frame.payload))
    }
    try check.finish()
    report.isVerified = true
    report.comparedPageCount = check.comparedCount
  }

  // MARK: - The end

  /// Waits until the destination could run the guest; a file always could be run.
  mutating func awaitReady() throws(MigrationError) {
    if stream.hasReturnPath { _ = try stream.receive(.ready) }
  }

  mutating func handOver() throws(MigrationError) {
    do {
      try pacer.expire()
      try stream.outliveCancellation()
    } catch {
      throw stream.giveUp(error)
    }
    guard stream.hasReturnPath else {
      try stream.send(.commit)
      return try stream.finish()
    }
    do {
      try stream.send(.commit)
    } catch {
      // A send that was called off has not gone in full, so the guest has not been given away.
      throw error == .cancelled ? error : fate(after: error)
    }
    do {
      _ = try stream.receive(.committed)
    } catch {
      throw fate(after: error)
    }
  }

  /// What a failure to give the guest away means.
  mutating func fate(after error: MigrationError) -> MigrationError {
    let reason = error == .peerGone ? stream.giveUp(error) : error
    switch reason {
    // The destination says so itself: it has not taken the guest.
    case .peerFailed, .refused: return reason
    default: return .outcomeUnknown(reason.description)
    }
  }
}
