import GuestRAM
public import LinuxIO

/// What is told of a move while it goes on.
public enum MigrationEvent: Equatable, Sendable {
  /// What is to be expected, told once in the first pass when enough has been sent to know the connection.
  case forecast(MigrationForecast)
  /// A pass has been made over the memory of the guest, which runs on; 1 is the first.
  case pass(Int, MigrationReport.Pass)
  /// The guest could be stopped now, and waits for permission (`SwitchoverPermit`).
  case waiting
  /// The guest is being stopped for its last pages, or for what is not a page if these are to follow it.
  case stopping
  /// The destination has the guest, and pages follow it that it lacks there.
  case left
}

/// What a finished move was like, seen from the side that reports it.
public struct MigrationReport: Equatable, Sendable {
  /// One pass over memory while the guest ran.
  public struct Pass: Equatable, Sendable {
    /// What it has sent, in bytes of memory.
    public let sentByteCount: UInt64
    /// How long it took.
    public let seconds: Double
    /// What was written meanwhile and had to be sent again, in bytes.
    public let remainingByteCount: UInt64
    /// How long the guest would have stood still for that, in seconds.
    public let expectedDowntimeSeconds: Double
    /// The share of the time that the guest ran from here on.
    public let share: Double
  }

  /// How many connections there were.
  public internal(set) var connectionCount = 1
  /// The bytes that went over the connections, both ways together.
  public internal(set) var wireByteCount: UInt64 = 0
  /// The 4 KiB pages whose bytes were sent, each as often as it was.
  public internal(set) var dataPageCount: UInt64 = 0
  /// The 4 KiB pages that were named as zero, each as often as it was, so that nothing of them was sent: they had memory
  /// behind them in the first pass, and were written or given back since in all others.
  public internal(set) var zeroPageCount: UInt64 = 0
  /// The 4 KiB pages that had no memory behind them and were neither read nor sent.
  public internal(set) var absentPageCount: UInt64 = 0
  /// The 4 KiB pages that had memory behind them and were never sent, as the guest had named them as free and not written
  /// them since; they read as zeros at the destination. Only the source knows: there they are among the absent ones.
  public internal(set) var skippedPageCount: UInt64 = 0
  /// The 4 KiB pages that followed the guest instead of going ahead of it.
  public internal(set) var outstandingPageCount: UInt64 = 0
  /// Of these, the ones whose bytes were sent, also over connections that broke.
  public internal(set) var latePageCount: UInt64 = 0
  /// Of these, the ones that were zero.
  public internal(set) var lateZeroPageCount: UInt64 = 0
  /// Of these, the ones that went ahead of others because somebody waited for them.
  public internal(set) var requestedPageCount: UInt64 = 0
  /// At the destination: how long the guest waited for pages.
  public internal(set) var pageWaits = PageWaits()
  /// The passes made while the guest ran, at the source.
  public internal(set) var passes: [Pass] = []
  /// How often memory was gone through again for what had been written since.
  public internal(set) var passCount = 0
  /// What the encodings have made of the pages, at a source that chose among them.
  public internal(set) var codec: PageCodecReport?
  /// The 4 KiB pages that were pinned: at a source that did so when it began, at a destination once all of the guest was
  /// there; 0 where it could not be found out.
  public internal(set) var pinnedPageCount: UInt64 = 0
  /// The bytes of memory that changed hands as files, neither read nor sent.
  public internal(set) var handedOverByteCount: UInt64 = 0
  /// The 4 KiB pages that a running guest wrote or gave back before they were saved, so that they had to be put aside.
  public internal(set) var asidePageCount: UInt64 = 0
  /// What has become of data that was to go without a copy, at a source that was told to try (`ZeroCopy`).
  public internal(set) var zeroCopies = ZeroCopyReport()
  /// The bytes of saved state.
  public internal(set) var stateByteCount: UInt64 = 0
  /// From the start of the move to its end, in seconds.
  public internal(set) var seconds: Double = 0
  /// From the pause of the guest until the destination had it, in seconds; nil where the pause is not known.
  public internal(set) var downtimeSeconds: Double?
  /// Whether the memory on both sides was compared before the guest was given away.
  public internal(set) var isVerified = false
  /// How many 4 KiB pages were compared: those with memory behind them at the source or the destination.
  public internal(set) var comparedPageCount: UInt64 = 0
  /// At the destination: why the source may not have heard that the guest arrived. The guest runs here all the same,
  /// and the source reports `outcomeUnknown`.
  public internal(set) var acknowledgementError: MigrationError?

  /// Bytes on the wire for each second of the move.
  public var bytesPerSecond: Double { seconds > 0 ? Double(wireByteCount) / seconds : 0 }

  init() {}

  mutating func count(_ runs: [PageRun]) {
    for run in runs {
      if run.isZero { zeroPageCount += UInt64(run.pageCount) } else { dataPageCount += UInt64(run.pageCount) }
    }
  }

  mutating func countLate(_ run: PageRun) {
    if run.isZero { lateZeroPageCount += UInt64(run.pageCount) } else { latePageCount += UInt64(run.pageCount) }
  }

  /// All pages that are not absent, after the first pass.
  var namedPageCount: UInt64 { dataPageCount + zeroPageCount + skippedPageCount + outstandingPageCount }

  /// Notes what the first pass, which names each page once at most, has left out.
  mutating func closeFirstPass(memoryByteCount: UInt64) {
    let pageCount = memoryByteCount / GuestPage.byteCount
    // What a peer says may be more than there is: that is found out when the counts are compared.
    absentPageCount = pageCount - min(pageCount, namedPageCount)
  }

  /// No guest is given up for a number that is only told.
  mutating func countPinned(_ memory: GuestMemory) {
    pinnedPageCount = ((try? memory.residentByteCount()) ?? 0) / GuestPage.byteCount
  }

  /// Fills in what is known at the end.
  mutating func close(since start: UInt64, wireByteCount: UInt64) {
    self.wireByteCount = wireByteCount
    seconds = Self.seconds(since: start)
  }

  /// The seconds since a moment of `MonotonicClock`.
  static func seconds(since moment: UInt64) -> Double {
    let now = MonotonicClock.now
    return now > moment ? Double(now - moment) / 1e9 : 0
  }
}
