import GuestRAM
public import LinuxIO

/// How a guest is saved while it runs.
public struct SnapshotPolicy: Equatable, Sendable {
  /// The most bytes of memory that may be put aside for pages that the guest writes before they are saved. When there is
  /// no more room its writers wait until some has been saved.
  public var mostBytesAside: Int
  /// The most bytes of memory a second; nil for all that the file takes.
  public var mostBytesPerSecond: UInt64?

  public init(mostBytesAside: Int = 64 << 20, mostBytesPerSecond: UInt64? = nil) {
    self.mostBytesAside = mostBytesAside
    self.mostBytesPerSecond = mostBytesPerSecond
  }
}

extension Source where Link: ~Copyable {
  /// Saves a guest as it is at one moment to a file, and lets it run on meanwhile.
  ///
  /// The guest is stopped only until its state is saved and its memory protected (`FrozenMemory`). From then on, whoever
  /// writes a page that has not been saved yet waits until its bytes have been put aside. What comes of it is a saved guest
  /// like any other: each page once, in rising order. The guest runs on here in any case, whatever fails, and is as it
  /// was before once the call has returned; it is not asked for its writes.
  /// - Parameters:
  ///   - notes: what a destination has to agree to.
  ///   - cancellation: calls it off before the next pages.
  ///   - stopped: told once the guest runs on, with the seconds for which it stood still.
  /// - Throws: the file is no guest. `guest` for a connection with somebody at its end, who would have to be given the
  ///   guest.
  /// - Returns: with the time for which the guest was stopped as its downtime.
  public consuming func snapshot<Guest: LiveGuest & ~Copyable>(
    _ guest: inout Guest, policy: SnapshotPolicy = SnapshotPolicy(), notes: [GuestDescription.Note] = [],
    unless cancellation: Cancellation? = nil, stopped: (Double) -> Void = { _ in }
  ) throws(MigrationError) -> MigrationReport {
    let start = MonotonicClock.now
    do throws(MigrationError) {
      guard !stream.hasReturnPath else {
        throw .guest("a guest that runs on cannot be given to a peer: a snapshot goes to a \"file:PATH\"")
      }
      pacer = try Pacer(MigrationPolicy(mostBytesPerSecond: policy.mostBytesPerSecond), cancellation)
      let memory = guest.memory
      try introduce(GuestDescription(regions: memory.regions.map(\.range), notes: notes))
      let frozen = try inGuestMemory { () throws(GuestMemoryError) in
        try FrozenMemory(memory, mostBytesAside: policy.mostBytesAside)
      }
      defer { frozen.end() }
      let (state, downtime) = try Self.freeze(&guest, frozen)
      report.downtimeSeconds = downtime
      stopped(downtime)
      try sendPages(of: frozen)
      // Nothing is to be waited for any more, long before the file is on the disk.
      frozen.end()
      report.closeFirstPass(memoryByteCount: memory.byteCount)
      report.asidePageCount = UInt64(frozen.asideCount)
      try send(state, verifies: false)
      try handOver()
    } catch {
      throw stream.giveUp(error)
    }
    report.close(since: start, wireByteCount: stream.byteCount)
    return report
  }

  /// - Returns: the state at the moment that is saved, and for how long the guest was stopped, in seconds.
  private static func freeze<Guest: LiveGuest & ~Copyable>(
    _ guest: inout Guest, _ frozen: FrozenMemory
  ) throws(MigrationError) -> (state: [UInt8], seconds: Double) {
    let pausedAt = MonotonicClock.now
    // Whatever comes of it, the guest runs on.
    defer { guest.resume() }
    let state = try guest.pause()
    try inGuestMemory { () throws(GuestMemoryError) in try frozen.freeze() }
    return (state, MigrationReport.seconds(since: pausedAt))
  }

  private mutating func sendPages(of frozen: FrozenMemory) throws(MigrationError) {
    while true {
      try pacer.check()
      let taken = try inGuestMemory { () throws(GuestMemoryError) in try frozen.takeNext() }
      guard let taken else { return }
      let runs = taken.flatMap(PageRun.runs)
      guard !runs.isEmpty else { continue }
      try stream.send(.plan, PageRun.payload(runs))
      report.count(runs)
      try sendData(of: runs, stagedIn: frozen.stage)
    }
  }

  /// Sends pages whose bytes lie one behind the other in other memory.
  private mutating func sendData(of runs: [PageRun], stagedIn stage: GuestMemory) throws(MigrationError) {
    var frame = PageFrame()
    var place: UInt64 = 0
    for run in runs where !run.isZero {
      if !frame.append(run) {
        try send(frame, at: &place, of: stage)
        frame = PageFrame()
        _ = frame.append(run)
      }
    }
    if !frame.runs.isEmpty { try send(frame, at: &place, of: stage) }
  }

  private mutating func send(
    _ frame: PageFrame, at place: inout UInt64, of stage: GuestMemory
  ) throws(MigrationError) {
    try pacer.wait(toSend: frame.byteCount)
    try stream.sender.sendPages(frame, stagedIn: stage, at: GuestAddress(place))
    place += UInt64(frame.byteCount)
  }
}

extension PageRun {
  /// Pages as they go into a plan, in runs that are not too long for a frame.
  fileprivate static func runs(_ run: FrozenMemory.Run) -> [PageRun] {
    let most = run.isZero ? run.range.byteCount : UInt64(mostDataPages) * GuestPage.byteCount
    return stride(from: 0, to: run.range.byteCount, by: Int(most)).map { (offset) in
      let byteCount = min(most, run.range.byteCount - offset)
      return PageRun(
        start: GuestAddress(run.range.start.rawValue + offset), pageCount: UInt32(byteCount / GuestPage.byteCount),
        isZero: run.isZero)
    }
  }
}
