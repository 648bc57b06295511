public import GuestRAM
import LinuxIO

/// The side that gives a guest away.
///
/// One side runs the guest, whatever fails. The guest stays able to run here until `commit` is sent, and by then the
/// destination has its memory, compared page by page if that was wanted, and has said that it could run it. So until then every failure,
/// of either side, leaves the guest here. Whoever receives `commit` owns the guest and answers `committed`.
///
/// The last message of such an exchange can always be lost. If nothing is heard after `commit`, the guest may run
/// there or may not; it must not run here by itself, and `outcomeUnknown` is thrown. An operator looks at the
/// destination: if it has the guest, the copy here is let go of; if it is certain that it has not and will not, the
/// guest may run on here. A destination that says after `commit` that it failed has not taken the guest.
///
/// A guest can also be sent where nobody answers, into a file. It is whole there once the call has returned; who runs it,
/// and how often, is then up to people: the guest here may run on as well, as another one.
public struct Source<Link: Channel & ~Copyable>: ~Copyable {
  var stream: FrameStream<Link>
  let producer: String
  /// What has gone over connections that broke.
  var earlierByteCount: UInt64 = 0
  var report = MigrationReport()
  var pacer = Pacer()
  var meter = RateMeter()
  var encoder: PageEncoder?
  /// Pages that the guest has named as free and that have not been sent: they stay zero at the destination.
  var leftOut: [GuestRange] = []
  /// Told what goes, for a guest whose writes are found by comparing.
  var sentPages: SentPages?
  /// Whether it has been told that the guest could be stopped, and is not.
  var hasWaited = false
  /// What the further connections are made of, until the destination knows of them.
  var further: [any Channel]
  var lanes: [Lane] = []

  /// - Parameters:
  ///   - further: more connections to the same destination, made after `link`, at most 15: pages go over all of them at
  ///     once if the destination takes them. They are not used for a guest that is compressed.
  ///   - producer: names this program to people, at most 255 bytes of UTF-8; what is longer is cut off.
  ///   - timeLimit: how long the destination may take for each frame, and to get ready for the guest.
  public init(
    _ link: consuming Link, further: [any Channel] = [], producer: String, timeLimit: Duration = .seconds(30)
  ) {
    stream = FrameStream(link, limit: timeLimit)
    self.further = further
    self.producer = producer
  }

  /// What has gone over all connections.
  var wireByteCount: UInt64 { lanes.reduce(stream.byteCount) { $0 + $1.byteCount } }

  /// Moves a guest that does not run, and returns once the destination has it.
  ///
  /// Memory that the guest never used is neither read nor sent, nor are pages of zeros. While it works nobody may
  /// write the memory.
  /// - Parameters:
  ///   - state: the saved state of devices and processors, opaque here.
  ///   - notes: what the destination has to agree to before the first page is sent.
  ///   - pausedAt: when the guest was paused, by `MonotonicClock`; now, when nil.
  ///   - verifies: whether the destination's memory is compared with this one before the guest is given away.
  ///   - zeroCopy: whether pages go without a copy; unless told otherwise, where that helps. The kernel has done with them
  ///     when this returns; after an error it may still read them for a connection that has failed, which changes nothing.
  /// - Throws: the guest may run on here unless the error's `sourceMayRun` is false.
  public consuming func move(
    _ memory: GuestMemory, state: [UInt8], notes: [GuestDescription.Note] = [], pausedAt: UInt64? = nil,
    verifies: Bool = true, zeroCopy: ZeroCopy = .ifItHelps
  ) throws(MigrationError) -> MigrationReport {
    let start = MonotonicClock.now
    do {
      try stream.sender.use(zeroCopy)
      try introduce(GuestDescription(regions: memory.regions.map(\.range), notes: notes))
      try openLanes()
      try useOnLanes(zeroCopy)
      try sendAllPages(of: memory)
      try send(state, verifies: verifies)
      if verifies { try compare(memory) }
      try awaitReady()
      try awaitZeroCopies()
    } catch {
      throw stream.giveUp(error)
    }
    try handOver()
    report.close(since: start, wireByteCount: wireByteCount)
    report.downtimeSeconds = MigrationReport.seconds(since: pausedAt ?? start)
    return report
  }
}
