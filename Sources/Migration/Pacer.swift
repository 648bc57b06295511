import LinuxIO

/// What is looked at before each frame of pages: whether to go on, how fast, and whether the guest may write meanwhile.
struct Pacer {
  private var cancellation: Cancellation?
  private var bucket: TokenBucket?
  /// Where pages are copied before they are sent, while the guest runs.
  private(set) var stage: PageStage?

  init() {}

  /// For a guest that runs.
  init(_ policy: MigrationPolicy, _ cancellation: Cancellation?) throws(MigrationError) {
    self.cancellation = cancellation
    // A twentieth of a second's bytes may go at once, or a frame if that is more.
    bucket = policy.mostBytesPerSecond.map {
      TokenBucket(.init(perSecond: max(1, $0), burst: max($0 / 20, UInt64(Frame.mostPageData))))
    }
    stage = try PageStage()
  }

  /// What may be sent in a second.
  var mostBytesPerSecond: UInt64 { bucket?.rate.perSecond ?? .max }

  /// The guest stands still: what is left goes as fast as it can.
  mutating func guestHasStopped() {
    bucket = nil
    stage = nil
  }

  /// Waits for so long, or throws as soon as the move is called off.
  func pause(nanoseconds: UInt64) throws(MigrationError) {
    try connecting { () throws(LinuxError) in
      // Without anybody to call it off it is a wait like any other.
      let cancellation = if let cancellation { cancellation } else { try Cancellation() }
      try cancellation.wait(.nanoseconds(Int64(clamping: nanoseconds)))
    }
  }

  /// Waits for a permit for so long; false when it has not been given by then.
  func wait(for permit: SwitchoverPermit, _ limit: Duration) throws(MigrationError) -> Bool {
    let isAllowed = permit.wait(limit, unless: cancellation)
    try check()
    return isAllowed
  }

  /// The guest is about to be given away, after which nobody can call it off. Throws if somebody has.
  func expire() throws(MigrationError) {
    if let cancellation, !cancellation.expire() { throw .cancelled }
  }

  /// Throws if the move has been called off.
  func check() throws(MigrationError) {
    if let cancellation, cancellation.isCancelled { throw .cancelled }
  }

  /// Waits until so many bytes may be sent. Throws if the move has been called off.
  mutating func wait(toSend byteCount: Int) throws(MigrationError) {
    let delay = try delay(toSend: byteCount)
    if delay > 0 { try pause(nanoseconds: delay) }
  }

  /// Counts bytes as sent, and tells how long to wait before, in nanoseconds. Throws if the move has been called off.
  mutating func delay(toSend byteCount: Int) throws(MigrationError) -> UInt64 {
    try check()
    return bucket?.take(UInt64(byteCount), now: MonotonicClock.now) ?? 0
  }
}

/// How fast pages go.
struct RateMeter {
  /// So little says nothing of the connection: it may all be in its buffers.
  private static let leastBytes: UInt64 = 16 << 20

  private var start = MonotonicClock.now
  private var byteCount: UInt64 = 0
  private var isTold = false
  private var linkByteCount: UInt64 = 0
  private var linkNanoseconds: UInt64 = 0

  mutating func add(_ count: Int) {
    byteCount += UInt64(count)
  }

  /// What the connection takes in a second while it is sent to, in bytes; 0 when that is not known yet.
  var linkSpeed: UInt64 {
    guard linkNanoseconds > 0 else { return 0 }
    return UInt64(Double(linkByteCount) / Double(linkNanoseconds) * 1e9)
  }

  /// So many bytes have been sent. What was sent long ago counts less and less.
  mutating func noteLink(_ count: Int, since start: UInt64) {
    if linkByteCount > Self.leastBytes { (linkByteCount, linkNanoseconds) = (linkByteCount / 2, linkNanoseconds / 2) }
    linkByteCount += UInt64(count)
    linkNanoseconds += MonotonicClock.now &- start
  }

  /// Bytes a second, once: when enough has been sent to know.
  mutating func newRate() -> Double? {
    guard !isTold, byteCount >= Self.leastBytes else { return nil }
    isTold = true
    return Double(byteCount) / max(MigrationReport.seconds(since: start), 1e-6)
  }

  /// What has been sent since the meter was made or this was asked last, and how long it took.
  mutating func lap() -> (sentByteCount: UInt64, seconds: Double) {
    defer { (start, byteCount) = (MonotonicClock.now, 0) }
    return (byteCount, MigrationReport.seconds(since: start))
  }
}
