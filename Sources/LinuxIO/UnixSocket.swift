import Glibc

/// A connected stream socket that carries bytes and descriptors. It is closed with its value.
///
/// Every call can be given a time limit, so that a peer that stalls does not hold its caller for ever. After an error
/// the two sides no longer agree where in the stream they are: let go of the socket.
public struct UnixSocket: ~Copyable, Sendable {
  /// The open descriptor, to watch in an event loop.
  public let descriptor: FileDescriptor

  /// Takes over a stream socket that is connected already.
  public init(owning descriptor: consuming FileDescriptor) {
    self.descriptor = descriptor
  }

  /// Connects to whoever listens on the socket at `path`.
  public static func connect(to path: String) throws(LinuxError) -> UnixSocket {
    let address = try UnixAddress(path: path)
    let descriptor = try makeUnixSocket()
    let number = descriptor.rawValue
    _ = try retrying("connect", on: path) {
      unsafe address.withSocketAddress { unsafe Glibc.connect(number, $0, $1) }
    }
    return UnixSocket(owning: descriptor)
  }

  /// Two sockets that are connected to each other; each can be let go of by itself.
  @frozen public struct Pair: ~Copyable, Sendable {
    public let first: UnixSocket
    public let second: UnixSocket
  }

  /// Makes two sockets that are connected to each other.
  public static func pair() throws(LinuxError) -> Pair {
    var numbers: (Int32, Int32) = (-1, -1)
    _ = try retrying("socketpair") {
      unsafe withUnsafeMutableBytes(of: &numbers) { (buffer) in
        unsafe socketpair(AF_UNIX, streamSocketType, 0, buffer.assumingMemoryBound(to: Int32.self).baseAddress)
      }
    }
    return Pair(
      first: UnixSocket(owning: FileDescriptor(owning: numbers.0)),
      second: UnixSocket(owning: FileDescriptor(owning: numbers.1)))
  }

  /// Waits until there is something to receive, or the peer is gone.
  /// - Parameter limit: how long to wait; for ever when nil.
  /// - Returns: false when the time was up first.
  public func waitUntilReadable(within limit: Duration? = nil) throws(LinuxError) -> Bool {
    try wait(for: POLLIN, on: descriptor.rawValue, until: Deadline(after: limit))
  }

  /// Ends the connection for both sides while the value lives on: a thread that waits in `receive` sees the end.
  public func shutDown() {
    // It fails only when the peer was quicker.
    shutdown(descriptor.rawValue, Int32(SHUT_RDWR))
  }
}

let streamSocketType = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)

func makeUnixSocket(type: Int32 = streamSocketType) throws(LinuxError) -> FileDescriptor {
  FileDescriptor(owning: try retrying("socket") { socket(AF_UNIX, type, 0) })
}
