import GuestRAM
import LinuxIO
import Synchronization

/// A channel of whatever kind.
struct AnyChannel: Channel {
  let channel: any Channel

  var hasReturnPath: Bool { channel.hasReturnPath }

  func send(_ bytes: [UInt8], within limit: Duration) throws(LinuxError) {
    try channel.send(bytes, within: limit)
  }

  func send(_ vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) {
    try channel.send(vectors, within: limit)
  }

  func receive(exactly byteCount: Int, within limit: Duration) throws(LinuxError) -> [UInt8]? {
    try channel.receive(exactly: byteCount, within: limit)
  }

  func receive(into vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) -> Bool {
    try channel.receive(into: vectors, within: limit)
  }

  func waitUntilReadable(within limit: Duration) throws(LinuxError) -> Bool {
    try channel.waitUntilReadable(within: limit)
  }

  func startZeroCopy() throws(LinuxError) { try channel.startZeroCopy() }

  func sendInPlace(_ vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) {
    try channel.sendInPlace(vectors, within: limit)
  }

  func awaitZeroCopies(within limit: Duration) throws(LinuxError) { try channel.awaitZeroCopies(within: limit) }
  var zeroCopies: ZeroCopyReport { channel.zeroCopies }

  func finish(within limit: Duration) throws(MigrationError) { try channel.finish(within: limit) }
  func outliveCancellation() -> Bool { channel.outliveCancellation() }
  func shutDown() { channel.shutDown() }
}

/// A further connection of a move, which carries plans and page data and nothing else: it is used by one thread, which
/// has memory of its own to keep pages in on their way.
///
/// It opens as the first connection does, and then says by a token, which went over that one, which move it is part of.
final class Lane: Sendable {
  let stream: Mutex<FrameStream<AnyChannel>>
  let stage: PageStage
  private let channel: any Channel

  init(_ channel: any Channel, limit: Duration) throws(MigrationError) {
    self.channel = channel
    stream = Mutex(FrameStream(AnyChannel(channel: channel), limit: limit))
    stage = try PageStage()
  }

  /// Has whoever uses the connection notice that it is over, on both sides.
  func shutDown() { channel.shutDown() }

  /// The bytes that have gone either way.
  var byteCount: UInt64 { stream.withLock { $0.byteCount } }

  /// Tells a destination which connection this is.
  func join(_ call: LaneCall, producer: String) throws(MigrationError) {
    try stream.withLock { (stream) throws(MigrationError) in
      try stream.open(Hello(.source, producer: producer))
      stream.expectNoOpening()
      try stream.send(.join, call.payload)
    }
  }

  /// Which connection of a move this is; nil for a stranger's, whatever it says.
  func number(in token: UInt128) -> UInt8? {
    stream.withLock { (stream) in
      guard let hello = try? stream.receiveHello(), hello.role == .source, let frame = try? stream.receive(.join),
        let call = try? LaneCall(frame.payload, of: .join), call.token == token
      else { return nil }
      return call.number
    }
  }

  /// - Parameter limit: for each frame from now on.
  func setLimit(_ limit: Duration) {
    stream.withLock { (stream) in
      stream.sender.limit = limit
      stream.receiver.limit = limit
    }
  }

  /// Says that all of a pass has been sent here.
  func endPass(_ number: UInt32) throws(MigrationError) {
    try stream.withLock { (stream) throws(MigrationError) in
      try Self.naming { () throws(MigrationError) in try stream.send(.barrier, Pass.payload(number)) }
    }
  }

  /// Tells the end of one of several connections from that of the one which speaks for the peer.
  static func naming<Result>(_ body: () throws(MigrationError) -> Result) throws(MigrationError) -> Result {
    do {
      return try body()
    } catch {
      throw error == .peerGone ? .connectionLost : error
    }
  }
}

/// How many further connections there are, or which of them this is, and what tells them from strangers'.
struct LaneCall: Equatable {
  /// The most further connections.
  static let most = 15

  var number: UInt8
  /// Whoever has not seen the first connection cannot know it.
  var token: UInt128

  init(_ number: UInt8, token: UInt128) {
    self.number = number
    self.token = token
  }

  var payload: [UInt8] {
    var writer = WireWriter()
    writer.append(number)
    writer.append(token)
    return writer.bytes
  }

  init(_ payload: [UInt8], of kind: FrameKind) throws(MigrationError) {
    var reader = WireReader(payload)
    guard let number: UInt8 = reader.integer(), number <= Self.most, let token: UInt128 = reader.integer(),
      reader.remainingCount == 0
    else { throw .malformedFrame(kind) }
    self.init(number, token: token)
  }
}
