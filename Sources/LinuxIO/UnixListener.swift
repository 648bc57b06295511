import CLinux
import Glibc

/// A socket in the file system on which peers connect; its file is removed with it.
public struct UnixListener: ~Copyable, Sendable {
  /// The open descriptor, to watch in an event loop: readable when a peer has connected.
  public let descriptor: FileDescriptor
  /// Where peers find it.
  public let path: String
  private let file: SocketFile

  /// Starts to listen.
  ///
  /// A socket file that nobody listens on is a left-over and is replaced. `EADDRINUSE` is thrown when somebody listens
  /// there, `EEXIST` when the file is not a socket: neither is touched.
  /// - Parameters:
  ///   - path: at most 107 bytes.
  ///   - backlog: how many peers may wait to be accepted.
  public init(path: String, backlog: Int32 = 16) throws(LinuxError) {
    let address = try UnixAddress(path: path)
    try SocketFile.removeLeftOver(at: path)
    let descriptor = try makeUnixSocket()
    let number = descriptor.rawValue
    _ = try retrying("bind", on: path) { unsafe address.withSocketAddress { unsafe bind(number, $0, $1) } }
    _ = try retrying("listen", on: path) { listen(number, backlog) }
    self.path = path
    file = SocketFile(path: path)
    self.descriptor = descriptor
  }

  /// Takes the next peer that has connected, and waits for one when there is none.
  public func accept() throws(LinuxError) -> UnixSocket {
    let number = descriptor.rawValue
    let peer = try retrying("accept4", on: path) { accept4(number, nil, nil, Int32(SOCK_CLOEXEC.rawValue)) }
    return UnixSocket(owning: FileDescriptor(owning: peer))
  }
}
