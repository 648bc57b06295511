import Migration

/// What the demo asks of a process that hosts a guest. Each request is answered by any number of `progress` replies and
/// then one other.
enum HostRequest: Codable {
  /// Make a guest and let it work until it has used most of its memory.
  case boot(memoryByteCount: UInt64, seed: UInt64, workload: DemoOptions.WorkloadKind)
  /// Let the guest work on for a while.
  case work
  /// Ask the guest, by its balloon, to keep this much memory, and wait until it has done so or gives up.
  case resize(targetByteCount: UInt64)
  /// Stop the guest and move it to whoever listens on a socket.
  case send(socketPath: String)
  /// Listen on a socket for a guest, and let it run once it has arrived.
  case receive(socketPath: String)
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
  /// How many pages were found to hold what the guest wrote there.
  var checkedPages = 0
  /// What the guest found wrong with its memory, or nil.
  var fault: String?
  /// How the guest left, after `send`.
  var move: MoveView?
}

/// One move of a guest between processes.
struct MoveView: Codable {
  var name = ""
  /// What went over the socket.
  var bytes: UInt64
  var seconds: Double
  /// How long the guest did not run.
  var downtimeSeconds: Double
  /// How often what had been written meanwhile was sent.
  var passes: Int
  /// The guest's steps on the source while it was moved; 0 for one that was moved standing still.
  var steps: Int
  /// How many pages of the arrived guest were found to hold what the guest had written there.
  var pagesChecked = 0

  enum CodingKeys: String, CodingKey {
    case name, bytes, seconds, passes, steps
    case downtimeSeconds = "downtime_seconds"
    case pagesChecked = "pages_checked"
  }

  init(_ report: MigrationReport, stepCount: Int) {
    bytes = report.wireByteCount
    seconds = max(report.seconds, report.downtimeSeconds ?? 0)
    downtimeSeconds = report.downtimeSeconds ?? report.seconds
    passes = report.passCount
    steps = stepCount
  }
}
