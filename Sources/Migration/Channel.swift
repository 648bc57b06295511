public import LinuxIO

/// A two-way connection that carries the bytes of a migration, in order.
///
/// Each call has a time limit for all of its bytes and throws `ETIMEDOUT` when that is over, `EPIPE` or `ECONNRESET`
/// when the peer is gone. After an error nothing more is asked of the channel but the bytes that it still holds.
public protocol Channel: ~Copyable, Sendable {
  /// Sends all bytes.
  func send(_ bytes: [UInt8], within limit: Duration) throws(LinuxError)
  /// Sends all bytes of lent memory, with no copy in this process.
  func send(_ vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError)
  /// Receives exactly so many bytes; nil at the end of the stream, `ECONNRESET` when that comes after some of them.
  func receive(exactly byteCount: Int, within limit: Duration) throws(LinuxError) -> [UInt8]?
  /// Fills all of the lent memory, with no copy in this process; false at the end of the stream.
  func receive(into vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) -> Bool
}

extension UnixSocket: Channel {
  public func send(_ bytes: [UInt8], within limit: Duration) throws(LinuxError) {
    try send(bytes, descriptors: [], within: limit)
  }

  public func send(_ vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) {
    try send(vectors, descriptors: [], within: limit)
  }

  public func receive(exactly byteCount: Int, within limit: Duration) throws(LinuxError) -> [UInt8]? {
    try receive(exactly: byteCount, maximumDescriptors: 0, within: limit)?.bytes
  }

  public func receive(into vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) -> Bool {
    let limit: Duration? = limit
    return try receive(into: vectors, within: limit)
  }
}
