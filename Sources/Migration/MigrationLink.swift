public import LinuxIO
import Synchronization

/// A connection for a migration, over any kind of `MigrationAddress`.
///
/// It is let go of with its last user. A command then has a few seconds to deliver what it has taken, and is killed if it
/// has not ended by itself; `finish` tells whether it has done its work.
public final class MigrationLink: Channel {
  /// How long a command may take to end once nothing more comes.
  static let mostTimeToEnd = Duration.seconds(5)

  /// Where it goes.
  public let address: MigrationAddress
  public let hasReturnPath: Bool
  private let stream: ByteStream
  private let child: ChildProcess?
  private let hasFailedToSend = Atomic(false)

  init(
    _ address: MigrationAddress, _ stream: ByteStream, child: ChildProcess? = nil
  ) {
    self.address = address
    self.stream = stream
    self.child = child
    if case .file = address { hasReturnPath = false } else { hasReturnPath = true }
  }

  deinit {
    stream.endOutput()
    // A command that no longer takes anything delivers nothing whole.
    guard let child, !hasFailedToSend.load(ordering: .relaxed) else { return }
    // What comes of it no longer matters to anybody; a child that has not ended is killed with its value.
    _ = try? child.waitUntilExit(within: Self.mostTimeToEnd, unless: stream.cancellation)
  }

  public func send(_ bytes: [UInt8], within limit: Duration) throws(LinuxError) {
    try sending { () throws(LinuxError) in try stream.send(bytes, within: limit) }
  }

  public func send(_ vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) {
    try sending { () throws(LinuxError) in try stream.send(vectors, within: limit) }
  }

  /// Only over one socket, of TCP or a unix socket.
  public func startZeroCopy() throws(LinuxError) { try stream.startZeroCopy() }

  public func sendInPlace(_ vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) {
    try sending { () throws(LinuxError) in try stream.sendInPlace(vectors, within: limit) }
  }

  public func awaitZeroCopies(within limit: Duration) throws(LinuxError) { try stream.awaitZeroCopies(within: limit) }
  public var zeroCopies: ZeroCopyReport { stream.zeroCopies }

  private func sending(_ body: () throws(LinuxError) -> Void) throws(LinuxError) {
    do {
      try body()
    } catch {
      hasFailedToSend.store(true, ordering: .relaxed)
      throw error
    }
  }

  public func receive(exactly byteCount: Int, within limit: Duration) throws(LinuxError) -> [UInt8]? {
    try stream.receive(exactly: byteCount, within: limit)
  }

  public func receive(into vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) -> Bool {
    try stream.receive(into: vectors, within: limit)
  }

  public func waitUntilReadable(within limit: Duration) throws(LinuxError) -> Bool {
    try stream.waitUntilReadable(within: limit)
  }

  /// Only over `unix:`, and `fd:` with a UNIX socket.
  public var passesDescriptors: Bool { stream.passesDescriptors }

  public func send(_ bytes: [UInt8], descriptors: [Int32], within limit: Duration) throws(LinuxError) {
    try sending { () throws(LinuxError) in try stream.send(bytes, descriptors: descriptors, within: limit) }
  }

  public func receive(
    exactly byteCount: Int, mostDescriptors most: Int, within limit: Duration
  ) throws(LinuxError) -> UnixSocket.Received? {
    try stream.receive(exactly: byteCount, mostDescriptors: most, within: limit)
  }

  public func outliveCancellation() -> Bool { stream.outliveCancellation() }
  public func shutDown() { stream.shutDown() }

  /// Sends the end of the stream, after which nothing can be sent, and waits until a file is on the disk or a command has
  /// ended; what the peer sends can still be received.
  /// - Throws: `commandFailed` for a command that did not end with status 0, `peerStalled` for one that did not end.
  public func finish(within limit: Duration) throws(MigrationError) {
    try connecting { () throws(LinuxError) in try stream.synchronize() }
    stream.endOutput()
    guard let child else { return }
    let end = try connecting { () throws(LinuxError) in
      try child.waitUntilExit(within: limit, unless: stream.cancellation)
    }
    guard let end else { throw .peerStalled }
    guard case .command(let command) = address, end != .exit(0) else { return }
    throw .commandFailed(command, end)
  }
}

/// Runs what makes or ends a connection and names its error as one of ours.
func connecting<Result: ~Copyable>(_ body: () throws(LinuxError) -> Result) throws(MigrationError) -> Result {
  do {
    return try body()
  } catch {
    throw MigrationError(error)
  }
}
