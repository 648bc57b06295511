import GuestRAM
import LinuxIO

/// Giving a guest away before all of its memory has gone.
extension Source where Link: ~Copyable {
  /// Asks the destination whether the guest may run there before all of its pages have come.
  mutating func announcePostcopy(_ policy: MigrationPolicy) throws(MigrationError) -> MoveToken? {
    guard policy.postcopy != .never else { return nil }
    guard stream.hasReturnPath else { throw .postcopyUnavailable("nobody can ask for pages over this connection") }
    let token = MoveToken()
    try stream.send(.postcopy, token.bytes)
    return token
  }

  /// Tells the destination all about a stopped guest but what its pages hold.
  /// - Parameter rest: what has not been sent as it is now; all of memory when nil.
  mutating func announce(
    _ rest: [GuestRange]?, of memory: GuestMemory, _ state: [UInt8], _ token: MoveToken?, _ policy: MigrationPolicy
  ) throws(MigrationError) -> LateSending? {
    guard let token else { return nil }
    var pages = OutstandingPages(memory.regions.map(\.range))
    let resident = try memory.residentPages()
    if let rest {
      leftOut = leftOut.subtracting(rest)
      let pieces = rest.pieces(resident: resident)
      try sendEmptyPages(pieces.filter { !$0.isResident }, of: memory)
      for piece in pieces where piece.isResident { try pages.insert(piece.range) }
    } else {
      for range in resident { try pages.insert(range) }
    }
    report.outstandingPageCount = pages.count
    if report.passCount == 0 { report.closeFirstPass(memoryByteCount: memory.byteCount) }
    try endPassOnLanes()
    try stream.sender.sendOutstanding(pages)
    try send(state, verifies: false)
    guard pages.count > 0 else {
      try awaitReady()
      return nil
    }
    return LateSending(token, pages, mostBytesPerSecond: policy.mostBytesPerSecond)
  }

  /// Tells of pages that were given back to the host since they were sent.
  private mutating func sendEmptyPages(_ pieces: [PagePiece], of memory: GuestMemory) throws(MigrationError) {
    report.passCount += 1
    try stream.send(.pass, Pass.payload(UInt32(report.passCount)))
    try sendPages(PageSweep(memory, of: pieces), of: memory)
  }

  /// Gives the guest away as soon as the destination could run it, and serves it until it lacks nothing.
  ///
  /// - Parameters:
  ///   - recovering: gives another connection for one that has broken after the guest was given away.
  ///   - left: told when the destination is known to have the guest.
  mutating func serve(
    _ memory: GuestMemory, _ late: inout LateSending, recovering: (MigrationError) -> Link?, left: () -> Void
  ) throws(MigrationError) {
    while true {
      do {
        return try serve(memory, &late, left: left)
      } catch {
        guard late.isGiven else { throw stream.giveUp(error) }
        let reason = late.isTaken ? error : fate(after: error)
        if !late.isTaken, reason.sourceMayRun { throw reason }
        try reconnect(&late, after: reason, recovering)
        left()
      }
    }
  }

  private mutating func serve(
    _ memory: GuestMemory, _ late: inout LateSending, left: () -> Void
  ) throws(MigrationError) {
    while !late.isOver {
      if !late.isGiven { try pacer.check() }
      let delay = late.delay(now: MonotonicClock.now)
      if try stream.receiver.waitForFrame(within: delay ?? stream.sender.limit) {
        try hear(&late, left)
      } else if delay == nil {
        throw .peerStalled
      } else if let run = try late.take(of: memory) {
        try stream.sender.sendLate(run, of: memory)
        report.countLate(run.run)
      }
    }
    report.requestedPageCount += late.requestedPageCount
  }

  private mutating func hear(_ late: inout LateSending, _ left: () -> Void) throws(MigrationError) {
    let frame = try stream.receive()
    guard frame.kind == .ready, !late.isGiven else {
      let wasTaken = late.isTaken
      try late.hear(frame)
      if late.isTaken != wasTaken { left() }
      return
    }
    try pacer.expire()
    try stream.outliveCancellation()
    late.isGiven = true
    do {
      try stream.send(.commit)
    } catch {
      // What was called off has not gone in full.
      if error == .cancelled { late.isGiven = false }
      throw error
    }
  }

  /// Goes on over another connection with the guest that has been given away.
  private mutating func reconnect(
    _ late: inout LateSending, after failure: MigrationError, _ recovering: (MigrationError) -> Link?
  ) throws(MigrationError) {
    var reason = failure
    // The destination has to notice as well.
    stream.sender.shutDown()
    while let link = recovering(reason) {
      earlierByteCount += stream.byteCount
      stream = FrameStream(link, limit: stream.sender.limit)
      do throws(MigrationError) {
        return try rejoin(&late)
      } catch {
        reason = stream.giveUp(error)
      }
    }
    // Whatever became of other connections, they have not told who has the guest.
    throw late.isTaken ? .interrupted("it may lack \(late.missingCount) pages; \(reason)") : failure
  }

  private mutating func rejoin(_ late: inout LateSending) throws(MigrationError) {
    try stream.open(Hello(.source, producer: producer))
    guard try stream.receiveHello().role == .destination else { throw .sameRole }
    try stream.send(.rejoin, late.token.bytes)
    var pages = late.pages.emptied
    while true {
      let frame = try stream.receive()
      switch frame.kind {
      case .outstanding: for run in try PageRun.runs(frame.payload) { try pages.insert(run.range) }
      case .accept: return late.restart(pages)
      default: throw .unexpectedFrame(frame.kind)
      }
    }
  }
}
