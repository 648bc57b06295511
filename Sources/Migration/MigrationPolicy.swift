/// Whether a guest may run at the destination before all of its memory is there.
///
/// It then waits for each page that it touches and lacks, and the source keeps the rest until all has arrived: if one
/// side or the connection is lost for good before that, so is the guest.
public enum Postcopy: Equatable, Sendable {
  /// All of memory is there before the guest runs.
  case never
  /// After so many passes over memory; with 0 nothing is sent before the guest is stopped.
  case afterPasses(Int)
  /// If the guest writes too fast, instead of giving up.
  case ifNeeded
}

/// How a guest that runs is moved: when it is stopped, and what may be done so that it can be.
public struct MigrationPolicy: Equatable, Sendable {
  /// How long the guest may stand still for its last pages, as far as that can be told before.
  public var downtimeLimit: Duration
  /// The most bytes of memory a second; nil for all that the connection takes. The last pages are not held back.
  public var mostBytesPerSecond: UInt64?
  /// What the connection is taken to carry in a second once the guest is stopped, in bytes; nil for the measured rate,
  /// which says too little where the passes before are held back.
  public var switchoverBytesPerSecond: UInt64?
  /// How many passes over what has been written may be made before the guest counts as one that writes too fast; never
  /// more than a destination takes, 9999.
  public var mostPasses: Int
  /// Whether a guest that writes faster than its pages can be sent is slowed down, step by step.
  public var slowsDown: Bool
  /// Whether a guest that still writes too fast after all passes is stopped all the same, for however long it takes;
  /// otherwise the move fails, and the guest runs on.
  public var stopsAnyway: Bool
  /// Whether the guest may run at the destination before all of its memory is there.
  public var postcopy: Postcopy
  /// Whether pages are compressed, and sent as what has changed of them, as far as that is faster on this connection.
  public var compresses: Bool
  /// How much memory may hold pages sent earlier, to tell what has changed of them, in bytes.
  public var cacheByteCount: Int
  /// Whether the guest is watched for a fifth of a second first, to tell what is to be expected of the move.
  public var forecasts: Bool
  /// Whether the memory on both sides is compared while the guest stands still, which takes long. What arrives after the
  /// guest is checked as it comes, and not compared.
  public var verifies: Bool
  /// Whether the guest's memory is pinned while it is moved, so that nothing has to be read from swap twice. Memory that
  /// was pinned before stays so.
  public var pinsMemory: Bool
  /// Whether the last pages, for which the guest stands still, go without a copy: they are few, so by default they do not.
  /// What is compressed is made anew.
  public var zeroCopy: ZeroCopy

  public init(
    downtimeLimit: Duration = .milliseconds(300), mostBytesPerSecond: UInt64? = nil,
    switchoverBytesPerSecond: UInt64? = nil, mostPasses: Int = 30,
    slowsDown: Bool = false, stopsAnyway: Bool = false, postcopy: Postcopy = .never, compresses: Bool = false,
    cacheByteCount: Int = 64 << 20,
    forecasts: Bool = false, verifies: Bool = false, pinsMemory: Bool = false, zeroCopy: ZeroCopy = .never
  ) {
    self.downtimeLimit = downtimeLimit
    self.mostBytesPerSecond = mostBytesPerSecond
    self.switchoverBytesPerSecond = switchoverBytesPerSecond
    self.mostPasses = mostPasses
    self.slowsDown = slowsDown
    self.stopsAnyway = stopsAnyway
    self.postcopy = postcopy
    self.compresses = compresses
    self.cacheByteCount = cacheByteCount
    self.forecasts = forecasts
    self.verifies = verifies
    self.pinsMemory = pinsMemory
    self.zeroCopy = zeroCopy
  }
}

/// Decides after each pass over a running guest's memory what comes next.
///
/// The guest is stopped once what it has written meanwhile can be sent within the downtime limit, at the rate of the
/// passes before. A guest of which two passes in a row leave no less than nine tenths of what the pass before left
/// writes too fast: it is slowed down if that is allowed, each time to seven tenths of its speed.
struct Convergence {
  enum Step: Equatable {
    /// Send what has been written, with the guest running at this share of its speed.
    case pass(share: Double)
    /// Stop the guest and send the rest.
    case stop
    /// Stop the guest, let it run at the destination, and then send the rest.
    case postcopy
    /// The guest writes too fast.
    case fail
  }

  private static let slowest = 0.01
  /// Less says little of the rate: much of it may be in the connection's buffers.
  private static let leastBytes: UInt64 = 4 << 20

  private let policy: MigrationPolicy
  private(set) var passCount = 0
  /// Bytes a second, the mean of the rate before and that of the pass just made. Once there is another the first pass does
  /// not count: it takes memory as it comes, and what is written lies all over.
  private(set) var rate = 0.0
  private var measuredCount = 0
  /// What pages that lie all over may go at: as long as only the first pass has told, half of that.
  private var rateOfScattered: Double { measuredCount <= 1 ? rate / 2 : rate }
  /// What passes too short to measure have sent since the last that was not.
  private var unmeasured = (byteCount: UInt64(0), seconds: 0.0)
  private var remaining = UInt64.max
  private var stallCount = 0
  private(set) var share = 1.0
  /// What it takes to stop the guest, whatever is left to send.
  var pauseSeconds = 0.0
  /// How long it took to ask what has been written, which the guest has to wait for once; 0 where that is told with
  /// `pauseSeconds`.
  var secondsToAsk = 0.0

  init(_ policy: MigrationPolicy) {
    self.policy = policy
  }

  /// The guest could have been stopped and was not: what it writes from now on says something, and what it wrote does not.
  mutating func restart() {
    (passCount, stallCount, remaining) = (0, 0, .max)
  }

  /// What the last pages are taken to go at.
  private var switchoverRate: Double { policy.switchoverBytesPerSecond.map { Double($0) } ?? rateOfScattered }

  /// How long the guest would stand still for sending so many bytes.
  func expectedSeconds(for byteCount: UInt64) -> Double {
    if byteCount == 0 { return pauseSeconds }
    return switchoverRate > 0 ? pauseSeconds + Double(byteCount) / switchoverRate : .infinity
  }

  /// What to tell people about a guest that writes too fast.
  func failure(remaining: UInt64) -> String {
    let seconds = expectedSeconds(for: remaining)
    return """
      the guest writes too fast: after \(passCount) passes \(remaining >> 20) MiB are left, for which it would stand still \
      \(Self.whole(seconds * 1000)) ms at \(Self.whole(switchoverRate / 1e6)) MB/s; allow more downtime, more bandwidth or slowing it \
      down, or shrink it by its balloon
      """
  }

  /// Before anything has been sent a time may be infinite.
  private static func whole(_ number: Double) -> String {
    Int64(exactly: number.rounded()).map { "\($0)" } ?? "unknown"
  }

  /// - Parameters:
  ///   - sentByteCount: what the pass just made has sent, in bytes.
  ///   - seconds: how long it took.
  ///   - remaining: what has been written meanwhile, in bytes.
  mutating func next(sentByteCount: UInt64, seconds: Double, remaining: UInt64) -> Step {
    passCount += 1
    measure(sentByteCount, seconds)
    let limit = max(0, policy.downtimeLimit.inSeconds)
    // Where asking alone takes all of the limit there has to be an end as well.
    if expectedSeconds(for: remaining) <= max(limit - secondsToAsk, limit / 4) { return .stop }
    if case .afterPasses(let count) = policy.postcopy, passCount >= count { return .postcopy }
    if passCount >= policy.passLimit { return lastResort }
    stallCount = Double(remaining) >= 0.9 * Double(self.remaining) ? stallCount + 1 : 0
    self.remaining = remaining
    if stallCount >= 2, policy.slowsDown, share > Self.slowest {
      stallCount = 0
      share = max(Self.slowest, share * 0.7)
    }
    return .pass(share: share)
  }

  /// What becomes of a guest that writes too fast.
  private var lastResort: Step {
    if policy.postcopy == .ifNeeded { return .postcopy }
    return policy.stopsAnyway ? .stop : .fail
  }

  private mutating func measure(_ sentByteCount: UInt64, _ seconds: Double) {
    // A pass that has sent nothing says nothing of the connection.
    guard sentByteCount > 0 else { return }
    unmeasured.byteCount += sentByteCount
    unmeasured.seconds += seconds
    guard unmeasured.byteCount >= Self.leastBytes || rate == 0 else { return }
    let measured = Double(unmeasured.byteCount) / max(unmeasured.seconds, 1e-6)
    rate = rate == 0 || measuredCount < 2 ? measured : (rate + measured) / 2
    measuredCount += 1
    unmeasured = (0, 0)
  }
}

extension MigrationPolicy {
  /// The passes that may be made while the guest runs: at least one, and one less than a destination takes.
  var passLimit: Int { min(max(1, mostPasses), Int(Pass.most) - 1) }
}
