/// Frames over a channel in both directions, after an opening that says what stream this is.
struct FrameStream<Link: Channel & ~Copyable>: ~Copyable {
  /// The newest version of the format, and the only one so far.
  static var version: UInt32 { 1 }
  /// The opening bytes; the line end shows a connection that changes text.
  private static var magic: [UInt8] { Array("VKMOVE\r\n".utf8) }

  private let shared: SharedLink<Link>
  var sender: FrameSender<Link>
  var receiver: FrameReceiver<Link>
  private var isOpened = false

  /// The bytes that have gone either way.
  var byteCount: UInt64 { sender.byteCount + receiver.byteCount }
  /// Whether a destination can answer.
  var hasReturnPath: Bool { shared.link.hasReturnPath }

  init(_ link: consuming Link, limit: Duration) {
    shared = SharedLink(link)
    sender = FrameSender(shared, limit: limit)
    receiver = FrameReceiver(shared, limit: limit)
  }

  /// Whether memory files can be handed over.
  var passesDescriptors: Bool { shared.link.passesDescriptors }

  /// Waits until what has been sent is where it is kept.
  func finish() throws(MigrationError) {
    try shared.link.finish(within: sender.limit)
  }

  // MARK: - Opening

  /// Sends the opening and the first frame in one go: whoever can read the one can read the other.
  mutating func open(_ hello: Hello) throws(MigrationError) {
    var opening = WireWriter()
    opening.append(Self.version)
    try sender.send(Frame(kind: .hello, payload: hello.payload), after: Self.magic + opening.bytes)
  }

  /// Receives the peer's opening and first frame.
  mutating func receiveHello() throws(MigrationError) -> Hello {
    isOpened = true
    guard try receiver.receiveBytes(Self.magic.count) == Self.magic else { throw .notAMigration }
    var reader = WireReader(try receiver.receiveBytes(4))
    let version: UInt32 = reader.integer() ?? 0
    guard version == Self.version else { throw .unsupportedVersion(version, newest: Self.version) }
    return try Hello(receiver.receive(.hello).payload)
  }

  /// The peer opens nothing here: what comes is frames.
  mutating func expectNoOpening() { isOpened = true }

  // MARK: - Frames

  mutating func send(_ kind: FrameKind, _ payload: [UInt8] = []) throws(MigrationError) {
    try sender.send(kind, payload)
  }

  /// The next frame. What a peer says when it gives up is thrown.
  mutating func receive() throws(MigrationError) -> Frame { try receiver.receive() }

  /// The next frame, which is of this kind.
  mutating func receive(_ kind: FrameKind) throws(MigrationError) -> Frame { try receiver.receive(kind) }

  // MARK: - The end

  /// What comes next must not be called off half-way. Throws if somebody has called it off.
  func outliveCancellation() throws(MigrationError) {
    guard shared.link.outliveCancellation() else { throw .cancelled }
  }

  // MARK: - Giving up

  /// Tells the peer why this side goes no further, as well as that is still possible.
  ///
  /// - Returns: what to report: a peer that is gone may have said why before it went.
  mutating func giveUp(_ reason: MigrationError) -> MigrationError {
    switch reason {
    case .peerFailed: return reason
    case .peerGone: return lastWords() ?? failureOfCommand() ?? reason
    default: break
    }
    // In the middle of a frame the peer would take it for the rest of that.
    guard sender.isBetweenFrames else { return lastWords() ?? reason }
    // It is called off for this as well, and the peer is to know.
    if reason == .cancelled { _ = shared.link.outliveCancellation() }
    sender.limit = min(sender.limit, .seconds(1))
    do {
      try send(.abort, Abort(reason).payload)
    } catch {
      // The peer learns it from the closed connection.
      return lastWords() ?? reason
    }
    // The peer may have closed it because of what it says here.
    if reason == .connectionLost { return lastWords() ?? reason }
    return reason
  }

  /// Why the peer gave up, if it said so before the connection ended.
  private mutating func lastWords() -> MigrationError? {
    receiver.limit = min(receiver.limit, .seconds(1))
    for _ in 0..<16 {
      do {
        // A peer that went early said first who it was.
        if isOpened { _ = try receive() } else { _ = try receiveHello() }
      } catch {
        if case .peerFailed = error { return error }
        if case .refused = error { return error }
        return nil
      }
    }
    return nil
  }

  /// How the command ended that carried the connection, if it is one and that is why the peer is gone.
  private func failureOfCommand() -> MigrationError? {
    do {
      try shared.link.finish(within: min(sender.limit, receiver.limit))
      return nil
    } catch {
      guard case .commandFailed = error else { return nil }
      return error
    }
  }
}
