import Glibc
public import LinuxIO

/// A two-way connection that carries the bytes of a migration, in order.
///
/// Each call has a time limit for all of its bytes and throws `ETIMEDOUT` when that is over, `EPIPE` or `ECONNRESET`
/// when the peer is gone. After an error nothing more is asked of the channel but the bytes that it still holds.
public protocol Channel: ~Copyable, Sendable {
  /// Whether the peer can answer: a file only takes, or gives.
  var hasReturnPath: Bool { get }
  /// Sends all bytes. After a cancellation (`ECANCELED`) the peer never gets all of them.
  func send(_ bytes: [UInt8], within limit: Duration) throws(LinuxError)
  /// Sends all bytes of lent memory, with no copy in this process; likewise.
  func send(_ vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError)
  /// Lets `sendInPlace` send without a copy; `EOPNOTSUPP` where that cannot be.
  func startZeroCopy() throws(LinuxError)
  /// Sends all bytes of lent memory, which the kernel may read until `awaitZeroCopies` has returned.
  func sendInPlace(_ vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError)
  /// Waits until the kernel reads nothing any more that was sent in place, as long as some of it goes within each limit.
  func awaitZeroCopies(within limit: Duration) throws(LinuxError)
  /// What has become of what was sent in place.
  var zeroCopies: ZeroCopyReport { get }
  /// Receives exactly so many bytes; nil at the end of the stream, `ECONNRESET` when that comes after some of them.
  func receive(exactly byteCount: Int, within limit: Duration) throws(LinuxError) -> [UInt8]?
  /// Fills all of the lent memory, with no copy in this process; false at the end of the stream.
  func receive(into vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) -> Bool
  /// Waits until there is something to receive, or the stream is at its end; false when the time was up first.
  func waitUntilReadable(within limit: Duration) throws(LinuxError) -> Bool
  /// Whether descriptors of this process can go to the peer, which is on the same machine then.
  var passesDescriptors: Bool { get }
  /// Sends all bytes, and descriptors, borrowed for the call, with the first of them.
  func send(_ bytes: [UInt8], descriptors: [Int32], within limit: Duration) throws(LinuxError)
  /// Receives exactly so many bytes and what descriptors come with them; `EMSGSIZE` is thrown for more than `most`.
  func receive(
    exactly byteCount: Int, mostDescriptors most: Int, within limit: Duration
  ) throws(LinuxError) -> UnixSocket.Received?
  /// Sends nothing more, and waits until what was sent is in safe hands as far as the channel can tell.
  /// - Throws: also why the peer is gone, if the channel knows more than that it is.
  func finish(within limit: Duration) throws(MigrationError)
  /// From now on calls on the channel go on until its peer is gone or their time is up, whoever would call them off.
  /// - Returns: false when somebody has.
  func outliveCancellation() -> Bool
  /// Ends the connection for both sides, if it can: whoever waits in another call returns.
  func shutDown()
}

/// A plain connection, which knows only what goes over it.
extension Channel where Self: ~Copyable {
  public var hasReturnPath: Bool { true }
  public func finish(within limit: Duration) throws(MigrationError) {}

  public func startZeroCopy() throws(LinuxError) {
    throw LinuxError(call: "setsockopt(SO_ZEROCOPY)", number: EOPNOTSUPP)
  }

  public func sendInPlace(_ vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) {
    try send(vectors, within: limit)
  }

  public func awaitZeroCopies(within limit: Duration) throws(LinuxError) {}
  public var zeroCopies: ZeroCopyReport { ZeroCopyReport() }

  public var passesDescriptors: Bool { false }

  public func send(_ bytes: [UInt8], descriptors: [Int32], within limit: Duration) throws(LinuxError) {
    throw LinuxError(call: "sendmsg", number: EOPNOTSUPP)
  }

  public func receive(
    exactly byteCount: Int, mostDescriptors most: Int, within limit: Duration
  ) throws(LinuxError) -> UnixSocket.Received? {
    throw LinuxError(call: "recvmsg", number: EOPNOTSUPP)
  }

  public func outliveCancellation() -> Bool { true }
  public func shutDown() {}
}

extension UnixSocket: Channel {
  public var passesDescriptors: Bool { true }

  public func send(_ bytes: [UInt8], descriptors: [Int32], within limit: Duration) throws(LinuxError) {
    let limit: Duration? = limit
    try send(bytes, descriptors: descriptors, within: limit)
  }

  public func receive(
    exactly byteCount: Int, mostDescriptors most: Int, within limit: Duration
  ) throws(LinuxError) -> UnixSocket.Received? {
    try receive(exactly: byteCount, maximumDescriptors: most, within: limit)
  }

  public func send(_ bytes: [UInt8], within limit: Duration) throws(LinuxError) {
    try send(bytes, descriptors: [], within: limit)
  }

  public func send(_ vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) {
    try send(vectors, descriptors: [], within: limit)
  }

  public func receive(exactly byteCount: Int, within limit: Duration) throws(LinuxError) -> [UInt8]? {
    try receive(exactly: byteCount, maximumDescriptors: 0, within: limit)?.bytes
  }

  public func waitUntilReadable(within limit: Duration) throws(LinuxError) -> Bool {
    let limit: Duration? = limit
    return try waitUntilReadable(within: limit)
  }

  public func receive(into vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) -> Bool {
    let limit: Duration? = limit
    return try receive(into: vectors, within: limit)
  }
}
