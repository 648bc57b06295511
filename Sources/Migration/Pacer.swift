import LinuxIO

/// What is looked at before each frame of pages: whether to go on, how fast, and whether the guest may write meanwhile.
struct Pacer {
  private var control: MigrationControl?
  private var bucket: TokenBucket?
  /// Where pages are copied before they are sent, while the guest runs.
  private(set) var stage: PageStage?

  init() {}

  /// For a guest that runs.
  init(_ policy: MigrationPolicy, _ control: MigrationControl) throws(MigrationError) {
    self.control = control
    // A twentieth of a second's bytes may go at once, or a frame if that is more.
    bucket = policy.mostBytesPerSecond.map {
      TokenBucket(.init(perSecond: max(1, $0), burst: max($0 / 20, UInt64(Frame.mostPageData))))
    }
    stage = try PageStage()
  }

  /// The guest stands still: what is left goes as fast as it can.
  mutating func guestHasStopped() {
    bucket = nil
    stage = nil
  }

  /// Waits until so many bytes may be sent. Throws if the move has been called off.
  mutating func wait(toSend byteCount: Int) throws(MigrationError) {
    try control?.check()
    guard let delay = bucket?.take(UInt64(byteCount), now: MonotonicClock.now), delay > 0 else { return }
    try control?.wait(nanoseconds: delay)
  }
}
