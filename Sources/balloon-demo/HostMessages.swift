import LinuxIO
import Migration

/// What the demo asks of a process that hosts a guest. Each request is answered by any number of `progress` replies and
/// then one other.
enum HostRequest: Codable {
  /// Make a guest and let it work until it has used most of its memory.
  case boot(memoryByteCount: UInt64, seed: UInt64, workload: DemoOptions.WorkloadKind, pins: Bool)
  /// Let the guest use most of its memory, as it did when it was made.
  case fill
  /// Shrink the guest by its balloon to so much memory, or as far as leaves it so much available.
  case shrink(targetByteCount: UInt64, leastAvailableByteCount: UInt64?)
  /// Give the guest all of its memory back.
  case grow
  /// Move the guest to whoever listens on a socket.
  case send(socketPath: String, MemoryMove)
  /// Listen on a socket for a guest, and let it run once it has arrived.
  case receive(socketPath: String, pins: Bool)
}

/// How a guest's memory gets to another process.
enum MemoryMove: Codable {
  case sent
  /// Sent but for what the guest names as free.
  case sentUnlessFree
  /// It stays where it is, and its files are passed on.
  case handedOver
}

/// What the process answers.
enum HostReply: Codable {
  case progress(String)
  /// The process is listening for a guest.
  case listening
  case done(HostView)
  case failed(String)
}

/// A guest as its host process sees it, all from their own sources.
struct HostView: Codable {
  /// Pages that the guest's own allocator counts, in bytes.
  struct GuestMemoryUse: Codable {
    var total: UInt64 = 0
    var free: UInt64 = 0
    var cache: UInt64 = 0
    var disk: UInt64 = 0
    var balloon: UInt64 = 0
  }

  /// What the balloon device knows.
  struct BalloonUse: Codable {
    /// The memory that the guest is to keep: what the operator set.
    var target: UInt64 = 0
    /// The memory that the guest has kept: its size less what its driver says is in the balloon.
    var actual: UInt64 = 0
    /// What the device gave back to the kernel.
    var reclaimed: UInt64 = 0
    var warning: String?
  }

  var guest = GuestMemoryUse()
  var balloon = BalloonUse()
  /// Host memory behind the guest, measured.
  var resident: UInt64 = 0
  /// How much of that is pinned.
  var pinned: UInt64 = 0
  /// How many pages were found to hold what the guest wrote there.
  var checkedPages = 0
  /// What the guest found wrong with its memory, or nil.
  var fault: String?
  /// How the guest left, after `send`.
  var move: MoveView?
  /// How far it came, after `shrink`.
  var shrink: ShrinkView?
  /// How long it took, after `grow`.
  var growSeconds: Double?
}

/// A guest that was shrunk by its balloon.
struct ShrinkView: Codable {
  /// The memory that the guest has kept.
  var guestBytes: UInt64
  /// Whether that is what it was asked to keep.
  var isComplete: Bool
  /// Why it was not shrunk further.
  var reason: String
  var seconds: Double
  /// The guest's steps meanwhile.
  var steps: Int
  var progress: [MoveView.Sample]

  enum CodingKeys: String, CodingKey {
    case reason, seconds, steps, progress
    case guestBytes = "guest_bytes"
    case isComplete = "is_complete"
  }
}

/// One move of a guest between processes.
struct MoveView: Codable {
  /// One pass over memory while the guest worked.
  struct PassView: Codable {
    var sentBytes: UInt64
    var seconds: Double
    /// What was written meanwhile.
    var remainingBytes: UInt64
    /// The share of the time that the guest ran from here on.
    var share: Double

    enum CodingKeys: String, CodingKey {
      case seconds, share
      case sentBytes = "sent_bytes"
      case remainingBytes = "remaining_bytes"
    }
  }

  /// How fast the guest worked at a time.
  struct Sample: Codable {
    /// Since the move began.
    var seconds: Double
    var stepsPerSecond: Double

    enum CodingKeys: String, CodingKey {
      case seconds
      case stepsPerSecond = "steps_per_second"
    }
  }

  var name = ""
  /// How the guest was shrunk before; nil if it was not.
  var shrink: ShrinkView?
  /// How long it took to get all of its memory back after the move; nil if it had it.
  var growSeconds: Double?
  /// Host memory behind the guest when it was filled, before anything else.
  var residentBytes: UInt64 = 0
  /// What was not sent as the guest had no use for it.
  var skippedBytes: UInt64
  /// What stayed where it is.
  var handedOverBytes: UInt64
  /// What went over the socket.
  var bytes: UInt64
  var seconds: Double
  /// With shrinking the guest before, but not with growing it back.
  var totalSeconds: Double = 0
  /// How much the guest got done in all of that time, of what it does alone; nil if it stood still.
  var workShare: Double?
  /// How long the guest did not run.
  var downtimeSeconds: Double
  /// How often what had been written meanwhile was sent.
  var passes: Int
  /// The guest's steps on the source while it was moved; 0 for one that was moved standing still.
  var steps: Int
  /// How many pages of the arrived guest were found to hold what the guest had written there.
  var pagesChecked = 0
  var passList: [PassView] = []
  var progress: [Sample] = []

  enum CodingKeys: String, CodingKey {
    case name, bytes, seconds, passes, steps, progress, shrink
    case growSeconds = "grow_seconds"
    case residentBytes = "resident_bytes"
    case skippedBytes = "skipped_bytes"
    case handedOverBytes = "handed_over_bytes"
    case totalSeconds = "total_seconds"
    case workShare = "work_share"
    case downtimeSeconds = "downtime_seconds"
    case pagesChecked = "pages_checked"
    case passList = "pass_list"
  }

  /// Works out what follows from shrinking and moving together.
  mutating func sumUp() {
    totalSeconds = seconds + (shrink?.seconds ?? 0)
    guard steps > 0 else { return }
    workShare = min(1, Double(steps + (shrink?.steps ?? 0)) / (totalSeconds * Machine.stepsPerSecond))
  }

  init(_ report: MigrationReport, _ work: StepMeter) {
    skippedBytes = report.skippedPageCount * 4096
    handedOverBytes = report.handedOverByteCount
    bytes = report.wireByteCount
    seconds = max(report.seconds, report.downtimeSeconds ?? 0)
    downtimeSeconds = report.downtimeSeconds ?? report.seconds
    passes = report.passCount
    steps = work.count
    progress = work.samples
    passList = report.passes.map {
      PassView(
        sentBytes: $0.sentByteCount, seconds: $0.seconds, remainingBytes: $0.remainingByteCount, share: $0.share)
    }
  }
}

/// Counts a guest's steps while it is moved, and samples how fast it does them.
struct StepMeter {
  private static let interval: UInt64 = 50_000_000

  private(set) var count = 0
  private(set) var samples: [MoveView.Sample] = []
  private let start = MonotonicClock.now
  private var last = (moment: MonotonicClock.now, count: 0)

  mutating func step() {
    count += 1
    let now = MonotonicClock.now
    guard now - last.moment >= Self.interval else { return }
    let rate = Double(count - last.count) / (Double(now - last.moment) / 1e9)
    samples.append(MoveView.Sample(seconds: Double(now - start) / 1e9, stepsPerSecond: rate))
    last = (now, count)
  }
}
