public import GuestRAM
import LinuxIO

/// The side that gives a guest away.
///
/// One side runs the guest, whatever fails. The guest stays able to run here until `commit` is sent, and by then the
/// destination has its memory, compared page by page, and has said that it could run it. So until then every failure,
/// of either side, leaves the guest here. Whoever receives `commit` owns the guest and answers `committed`.
///
/// The last message of such an exchange can always be lost. If nothing is heard after `commit`, the guest may run
/// there or may not; it must not run here by itself, and `outcomeUnknown` is thrown. An operator looks at the
/// destination: if it has the guest, the copy here is let go of; if it is certain that it has not and will not, the
/// guest may run on here. A destination that says after `commit` that it failed has not taken the guest.
public struct Source<Link: Channel & ~Copyable>: ~Copyable {
  private var stream: FrameStream<Link>
  private let producer: String
  private var report = MigrationReport()

  /// - Parameters:
  ///   - producer: names this program to people, at most 255 bytes of UTF-8; what is longer is cut off.
  ///   - timeLimit: how long the destination may take for each frame, and to get ready for the guest.
  public init(_ link: consuming Link, producer: String, timeLimit: Duration = .seconds(30)) {
    stream = FrameStream(link, limit: timeLimit)
    self.producer = producer
  }

  /// Moves a guest that does not run, and returns once the destination has it.
  ///
  /// Memory that the guest never used is neither read nor sent, nor are pages of zeros. While it works nobody may
  /// write the memory.
  /// - Parameters:
  ///   - state: the saved state of devices and processors, opaque here.
  ///   - notes: what the destination has to agree to before the first page is sent.
  ///   - pausedAt: when the guest was paused, by `MonotonicClock`; now, when nil.
  ///   - verifies: whether the destination's memory is compared with this one before the guest is given away.
  /// - Throws: the guest may run on here unless the error's `sourceMayRun` is false.
  public consuming func move(
    _ memory: GuestMemory, state: [UInt8], notes: [GuestDescription.Note] = [], pausedAt: UInt64? = nil,
    verifies: Bool = true
  ) throws(MigrationError) -> MigrationReport {
    let start = MonotonicClock.now
    do {
      try introduce(GuestDescription(regions: memory.regions.map(\.range), notes: notes))
      try sendPages(of: memory)
      try send(state, verifies: verifies)
      if verifies { try compare(memory) }
      _ = try stream.receive(.ready)
    } catch {
      throw stream.giveUp(error)
    }
    try handOver()
    report.close(since: start, wireByteCount: stream.byteCount, memoryByteCount: memory.byteCount)
    report.downtimeSeconds = MigrationReport.seconds(since: pausedAt ?? start)
    return report
  }

  private mutating func introduce(_ description: GuestDescription) throws(MigrationError) {
    try stream.open(Hello(.source, producer: producer))
    try stream.send(.description, description.payload)
    guard try stream.receiveHello().role == .destination else { throw .sameRole }
    _ = try stream.receive(.accept)
  }

  // MARK: - Memory and state

  /// Announces pages one stretch ahead of their data, so that the destination can have memory ready for them.
  private mutating func sendPages(of memory: GuestMemory) throws(MigrationError) {
    var sweep = try PageSweep(memory)
    var runs = try plan(&sweep)
    while !runs.isEmpty {
      let following = try plan(&sweep)
      try sendData(of: runs, memory)
      runs = following
    }
  }

  private mutating func plan(_ sweep: inout PageSweep) throws(MigrationError) -> [PageRun] {
    let runs = try sweep.next()
    if !runs.isEmpty { try stream.send(.plan, PageRun.payload(runs)) }
    report.count(runs)
    return runs
  }

  private mutating func sendData(of runs: [PageRun], _ memory: GuestMemory) throws(MigrationError) {
    var frame = PageFrame()
    for run in runs where !run.isZero {
      if !frame.append(run) {
        try stream.sendPages(frame.payload(memory), frame.buffers, of: memory)
        frame = PageFrame()
        _ = frame.append(run)
      }
    }
    if !frame.runs.isEmpty { try stream.sendPages(frame.payload(memory), frame.buffers, of: memory) }
  }

  private mutating func send(_ state: [UInt8], verifies: Bool) throws(MigrationError) {
    for start in stride(from: 0, to: state.count, by: FrameKind.state.mostPayload) {
      try stream.send(.state, Array(state[start...].prefix(FrameKind.state.mostPayload)))
    }
    report.stateByteCount = UInt64(state.count)
    let completion = Completion(
      dataPageCount: report.dataPageCount, zeroPageCount: report.zeroPageCount, stateByteCount: report.stateByteCount,
      stateDigest: GuestMemory.digest(of: state), isToVerify: verifies)
    try stream.send(.complete, completion.payload)
  }

  private mutating func compare(_ memory: GuestMemory) throws(MigrationError) {
    var check = try PageCheck(memory)
    while true {
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

  private mutating func handOver() throws(MigrationError) {
    do {
      try stream.send(.commit)
      _ = try stream.receive(.committed)
    } catch {
      let reason = error == .peerGone ? stream.giveUp(error) : error
      switch reason {
      // The destination says so itself: it has not taken the guest.
      case .peerFailed, .refused: throw reason
      default: throw .outcomeUnknown(reason.description)
      }
    }
  }
}
