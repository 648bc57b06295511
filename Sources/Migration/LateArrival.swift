import GuestRAM
import LinuxIO
import Synchronization

/// A guest that has arrived but for some of its pages, and how it gets them.
///
/// If it is let go of before the guest is here, nothing of it goes on.
final class LateArrival<Link: Channel & ~Copyable> {
  /// The connection that stands now, for the thread that asks for pages.
  private final class Current: Sendable {
    private let connection = Mutex<LateConnection<Link>?>(nil)

    var value: LateConnection<Link>? {
      get { connection.withLock { $0 } }
      set { connection.withLock { $0 = newValue } }
    }
  }

  let late: LateMemory
  private let token: MoveToken
  private let producer: String
  private let limit: Duration
  private let current = Current()
  private var connection: LateConnection<Link>
  private var isHere = false

  /// From the return on pages are asked for and come.
  init(
    _ memory: GuestMemory, _ outstanding: OutstandingPages, _ token: MoveToken,
    over stream: borrowing FrameStream<Link>,
    producer: String
  ) throws(MigrationError) {
    late = try LateMemory(memory, outstanding)
    self.token = token
    self.producer = producer
    limit = stream.receiver.limit
    connection = try LateConnection(late, stream, isCommitted: false)
    current.value = connection
    try late.startAnswering { [current] in
      current.value?.request($0)
    } failed: { [current] in
      current.value?.abandon()
    }
  }

  deinit {
    connection.abandon()
    if !isHere { late.abandon() }
  }

  /// Takes the guest, lets it run, and waits for the rest of its pages.
  func confirm(
    _ report: inout MigrationReport, starting start: () -> Void, recovering: (MigrationError) -> Link?
  ) throws(MigrationError) {
    do throws(MigrationError) {
      try connection.send(.ready)
      try connection.awaitCommit()
    } catch {
      refuse(error)
      throw error
    }
    isHere = true
    // Should it not have been heard, the connection is over, and another tells the source.
    do throws(MigrationError) { try connection.send(.committed) } catch { report.acknowledgementError = error }
    start()
    try awaitPages(&report, recovering)
    late.abandon()
    report.pageWaits = late.waits
    report.requestedPageCount = late.waits.count
  }

  private func awaitPages(
    _ report: inout MigrationReport, _ recovering: (MigrationError) -> Link?
  ) throws(MigrationError) {
    while true {
      do throws(MigrationError) {
        try connection.awaitEnd()
        return connection.count(in: &report)
      } catch {
        try reconnect(&report, after: error, recovering)
        if late.missingByteCount == 0, report.acknowledgementError != nil { return }
      }
    }
  }

  /// Tells the source that it keeps the guest.
  func refuse(_ reason: MigrationError) {
    if case .peerFailed = reason { return }
    // A source that does not hear it learns it from the end of the connection.
    try? connection.send(.abort, Abort(reason).payload)
  }

  // MARK: - Another connection

  private func reconnect(
    _ report: inout MigrationReport, after error: MigrationError, _ recovering: (MigrationError) -> Link?
  ) throws(MigrationError) {
    current.value = nil
    connection.abandon()
    // Its thread must not store anything that the source sends again.
    _ = Result { () throws(MigrationError) in try connection.awaitEnd() }
    connection.count(in: &report)
    // Another connection would bring pages, but nobody would learn of those that are missed.
    if let failure = late.failure { throw .interrupted(failure.description) }
    var reason = error
    while let link = recovering(reason) {
      var stream = FrameStream(link, limit: limit)
      do throws(MigrationError) {
        try rejoin(&stream)
        report.acknowledgementError = nil
        return
      } catch {
        reason = stream.giveUp(error)
      }
    }
    guard late.missingByteCount == 0 else { throw .interrupted(reason.description) }
    // The guest lacks nothing, and only the source does not know.
    report.acknowledgementError = reason
  }

  private func rejoin(_ stream: inout FrameStream<Link>) throws(MigrationError) {
    try stream.open(Hello(.destination, producer: producer))
    guard try stream.receiveHello().role == .source else { throw .sameRole }
    guard try MoveToken(stream.receive(.rejoin)) == token else { throw .anotherMove }
    try stream.sender.sendOutstanding(late.outstanding)
    try stream.send(.accept)
    connection = try LateConnection(late, stream, isCommitted: true)
    current.value = connection
    for page in late.wanted { connection.request(page) }
  }
}
