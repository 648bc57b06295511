import GuestRAM
import LinuxIO
import Synchronization

/// One of the connections over which late pages come, and the thread that receives them.
final class LateConnection<Link: Channel & ~Copyable>: Sendable {
  private struct State {
    var isCommitted: Bool
    var isAbandoned = false
    /// Set when the thread has ended: what is on the wire does no more harm.
    var end: Result<Void, MigrationError>?
    var receivedByteCount: UInt64 = 0
    var latePageCount: UInt64 = 0
    var lateZeroPageCount: UInt64 = 0
  }

  /// How often the thread looks whether it is still wanted.
  private static var patience: Duration { .milliseconds(200) }

  private let late: LateMemory
  private let limit: Duration
  private let sender: Mutex<FrameSender<Link>>
  /// Only to end the connection by, which does not wait for whoever sends.
  private let ending: FrameSender<Link>
  private let state: Monitor<State>
  private let changed = WakeUp()

  /// - Parameter isCommitted: whether the guest is here already.
  init(_ late: LateMemory, _ stream: borrowing FrameStream<Link>, isCommitted: Bool) throws(MigrationError) {
    self.late = late
    limit = stream.receiver.limit
    sender = Mutex(stream.sender)
    ending = stream.sender
    state = Monitor(State(isCommitted: isCommitted))
    let receiver = stream.receiver
    try connecting { () throws(LinuxError) in
      _ = try Thread(name: "late frames") { [self] in run(receiver) }
    }
  }

  // MARK: - Sending

  func send(_ kind: FrameKind, _ payload: [UInt8] = []) throws(MigrationError) {
    try sender.withLock { (sender) throws(MigrationError) in try sender.send(kind, payload) }
  }

  /// Asks for a page. If that fails the connection is over, and another will ask again.
  func request(_ page: GuestAddress) {
    do throws(MigrationError) {
      try send(.request, page.pagePayload)
    } catch {
      abandon()
    }
  }

  // MARK: - What the owner waits for

  /// Waits until the guest is this side's.
  func awaitCommit() throws(MigrationError) {
    let end = MonotonicClock.moment(after: limit)
    let result = state.wait(on: changed, until: end) { (state) -> Result<Void, MigrationError>? in
      state.isCommitted ? .success(()) : state.end
    }
    guard let result else { throw .peerStalled }
    try result.get()
  }

  /// Waits until nothing more comes over this connection: all is there, or the connection is over.
  func awaitEnd() throws(MigrationError) {
    try state.wait(on: changed) { $0.end }?.get()
  }

  /// Has the thread end soon, and the source notice; what is on its way is lost.
  func abandon() {
    state.withLock { $0.isAbandoned = true }
    ending.shutDown()
  }

  /// Adds what this connection has carried, once it has ended.
  func count(in report: inout MigrationReport) {
    let state = state.withLock { $0 }
    report.latePageCount += state.latePageCount
    report.lateZeroPageCount += state.lateZeroPageCount
    report.wireByteCount += state.receivedByteCount + sender.withLock { $0.byteCount }
  }

  // MARK: - The thread

  private func run(_ receiver: FrameReceiver<Link>) {
    var receiver = receiver
    let result: Result<Void, MigrationError>
    do throws(MigrationError) {
      while !isDone { try take(&receiver) }
      result = .success(())
    } catch {
      result = .failure(error)
    }
    let isGuestHere = state.withLock { (state) in
      state.end = result
      state.receivedByteCount = receiver.byteCount
      return state.isCommitted
    }
    // Nobody runs this guest here any more: whoever restores it must not wait for its pages.
    if !isGuestHere { late.abandon() }
    changed.wakeAll()
  }

  private var isDone: Bool { state.withLock { $0.isCommitted } && late.missingByteCount == 0 }

  private func take(_ receiver: inout FrameReceiver<Link>) throws(MigrationError) {
    try wait(for: receiver)
    let frame = try receiver.receive()
    switch frame.kind {
    case .late: try store(frame, &receiver)
    case .commit:
      let wasCommitted = state.withLock { (state) in
        defer { state.isCommitted = true }
        return state.isCommitted
      }
      guard !wasCommitted else { throw .unexpectedFrame(.commit) }
      changed.wakeAll()
    default: throw .unexpectedFrame(frame.kind)
    }
  }

  private func store(_ frame: Frame, _ receiver: inout FrameReceiver<Link>) throws(MigrationError) {
    let run = try LateRun(frame)
    try late.store(run.run, receiver.receiveLate(run))
    let pageCount = UInt64(run.run.pageCount)
    state.withLock { (state) in
      if run.run.isZero { state.lateZeroPageCount += pageCount } else { state.latePageCount += pageCount }
    }
    var writer = WireWriter()
    writer.append(run.run.pageCount)
    try send(.stored, writer.bytes)
  }

  /// Waits for the source to say something, as long as it may take and somebody is interested.
  private func wait(for receiver: FrameReceiver<Link>) throws(MigrationError) {
    let end = MonotonicClock.moment(after: limit)
    while try !receiver.waitForFrame(within: Self.patience) {
      if state.withLock({ $0.isAbandoned }) { throw .cancelled }
      if MonotonicClock.now >= end { throw .peerStalled }
    }
  }
}
