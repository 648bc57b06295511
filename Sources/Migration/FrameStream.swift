import GuestRAM
import LinuxIO

/// Frames over a channel, numbered in each direction, after an opening that says what stream this is.
struct FrameStream<Link: Channel & ~Copyable>: ~Copyable {
  /// The newest version of the format, and the only one so far.
  static var version: UInt32 { 1 }
  /// The opening bytes; the line end shows a connection that changes text.
  private static var magic: [UInt8] { Array("VKMOVE\r\n".utf8) }

  private let link: Link
  private var limit: Duration
  private var sentCount: UInt32 = 0
  private var receivedCount: UInt32 = 0
  private var isOpened = false
  /// The bytes that have gone either way.
  private(set) var byteCount: UInt64 = 0

  /// Whether a destination can answer.
  var hasReturnPath: Bool { link.hasReturnPath }

  /// Waits until what has been sent is where it is kept.
  func finish() throws(MigrationError) {
    try link.finish(within: limit)
  }

  init(_ link: consuming Link, limit: Duration) {
    self.link = link
    self.limit = limit
  }

  // MARK: - Opening

  /// Sends the opening and the first frame in one go: whoever can read the one can read the other.
  mutating func open(_ hello: Hello) throws(MigrationError) {
    var opening = WireWriter()
    opening.append(Self.version)
    try send(Frame(kind: .hello, payload: hello.payload), after: Self.magic + opening.bytes)
  }

  /// Receives the peer's opening and first frame.
  mutating func receiveHello() throws(MigrationError) -> Hello {
    isOpened = true
    guard try receiveBytes(Self.magic.count) == Self.magic else { throw .notAMigration }
    var reader = WireReader(try receiveBytes(4))
    let version: UInt32 = reader.integer() ?? 0
    guard version == Self.version else { throw .unsupportedVersion(version, newest: Self.version) }
    return try Hello(receive(.hello).payload)
  }

  // MARK: - Frames

  mutating func send(_ kind: FrameKind, _ payload: [UInt8] = []) throws(MigrationError) {
    try send(Frame(kind: kind, payload: payload))
  }

  private mutating func send(_ frame: Frame, after opening: [UInt8] = []) throws(MigrationError) {
    let number = sentCount
    sentCount &+= 1
    try sendBytes(opening + frame.header(number: number) + frame.payload)
  }

  /// Sends a frame of page data straight from guest memory, or from where it has been copied.
  mutating func sendPages(
    _ pages: PageFrame, of memory: GuestMemory, through stage: PageStage? = nil
  ) throws(MigrationError) {
    var (holder, buffers) = (memory, pages.buffers)
    var start: GuestAddress?
    if let stage {
      let copy = try stage.take(pages, of: memory)
      (holder, buffers, start) = (stage.memory, [copy], copy.address)
    }
    let payload = try pages.payload(holder, staged: start)
    try send(Frame(kind: .pages, payload: payload, dataByteCount: pages.byteCount))
    var vectors = IOVectors(capacity: buffers.count)
    do {
      _ = try holder.drain(buffers, using: &vectors) { (vectors) throws(MigrationError) in
        try connection { () throws(LinuxError) in try link.send(vectors, within: limit) }
        return pages.byteCount
      }
    } catch {
      throw MigrationError(error)
    }
    byteCount += UInt64(pages.byteCount)
  }

  /// The next frame. What a peer says when it gives up is thrown.
  mutating func receive() throws(MigrationError) -> Frame {
    let header = try FrameHeader(receiveBytes(Frame.headerByteCount), expecting: receivedCount)
    receivedCount &+= 1
    let frame = try header.frame(receiveBytes(header.payloadByteCount))
    if frame.kind == .abort { throw try Abort(frame.payload).heard }
    return frame
  }

  /// The next frame, which is of this kind.
  mutating func receive(_ kind: FrameKind) throws(MigrationError) -> Frame {
    let frame = try receive()
    guard frame.kind == kind else { throw .unexpectedFrame(frame.kind) }
    return frame
  }

  /// Receives the data behind a frame of pages straight into guest memory.
  mutating func receivePages(_ pages: [GuestBuffer], of memory: GuestMemory) throws(MigrationError) {
    let total = pages.reduce(0) { $0 + $1.byteCount }
    var vectors = IOVectors(capacity: pages.count)
    do {
      _ = try memory.fill(pages, using: &vectors) { (vectors) throws(MigrationError) in
        let isWhole = try connection { () throws(LinuxError) in try link.receive(into: vectors, within: limit) }
        guard isWhole else { throw .peerGone }
        return total
      }
    } catch {
      throw MigrationError(error)
    }
    byteCount += UInt64(total)
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
    limit = min(limit, .seconds(1))
    do {
      try send(.abort, Abort(reason).payload)
    } catch {
      // The peer learns it from the closed connection.
      return lastWords() ?? reason
    }
    return reason
  }

  /// Why the peer gave up, if it said so before the connection ended.
  private mutating func lastWords() -> MigrationError? {
    limit = min(limit, .seconds(1))
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
      try link.finish(within: limit)
      return nil
    } catch {
      guard case .commandFailed = error else { return nil }
      return error
    }
  }

  // MARK: - Bytes

  private mutating func sendBytes(_ bytes: [UInt8]) throws(MigrationError) {
    try connection { () throws(LinuxError) in try link.send(bytes, within: limit) }
    byteCount += UInt64(bytes.count)
  }

  private mutating func receiveBytes(_ count: Int) throws(MigrationError) -> [UInt8] {
    guard count > 0 else { return [] }
    let bytes = try connection { () throws(LinuxError) in try link.receive(exactly: count, within: limit) }
    guard let bytes else { throw .peerGone }
    byteCount += UInt64(count)
    return bytes
  }

  private func connection<Result>(_ body: () throws(LinuxError) -> Result) throws(MigrationError) -> Result {
    do {
      return try body()
    } catch {
      throw MigrationError(error)
    }
  }
}
