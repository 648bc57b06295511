import CLinux
import Glibc

/// A socket in the file system on which peers connect; its file is removed with it.
public struct UnixListener: ~Copyable, Sendable {
  /// The open descriptor, to watch in an event loop: readable when a peer has connected.
  public let descriptor: FileDescriptor
  /// Where peers find it.
  public let path: String
  private let identity: FileIdentity?

  /// Starts to listen.
  ///
  /// A socket file that nobody listens on is a left-over and is replaced. `EADDRINUSE` is thrown when somebody listens
  /// there, `EEXIST` when the file is not a socket: neither is touched.
  /// - Parameters:
  ///   - path: at most 107 bytes.
  ///   - backlog: how many peers may wait to be accepted.
  public init(path: String, backlog: Int32 = 16) throws(LinuxError) {
    let address = try UnixAddress(path: path)
    try Self.removeLeftOver(at: path, address)
    let descriptor = try makeUnixSocket()
    let number = descriptor.rawValue
    _ = try retrying("bind", on: path) { unsafe address.withSocketAddress { unsafe bind(number, $0, $1) } }
    _ = try retrying("listen", on: path) { listen(number, backlog) }
    self.path = path
    self.identity = FileIdentity(path: path)
    self.descriptor = descriptor
  }

  /// Takes the next peer that has connected, and waits for one when there is none.
  public func accept() throws(LinuxError) -> UnixSocket {
    let number = descriptor.rawValue
    let peer = try retrying("accept4", on: path) { accept4(number, nil, nil, Int32(SOCK_CLOEXEC.rawValue)) }
    return UnixSocket(owning: FileDescriptor(owning: peer))
  }

  private static func removeLeftOver(at path: String, _ address: UnixAddress) throws(LinuxError) {
    guard let identity = FileIdentity(path: path) else { return }
    guard identity.isSocket else { throw LinuxError(call: "bind", subject: path, number: EEXIST) }
    guard try !hasOwner(path, address) else { throw LinuxError(call: "bind", subject: path, number: EADDRINUSE) }
    _ = try retrying("unlink", on: path) { unsafe unlink(path) }
  }

  /// Whether a process holds the socket. A datagram socket asks: a stream socket's owner refuses it for its type and
  /// never learns of the question, whereas a connection would be accepted as a peer.
  private static func hasOwner(_ path: String, _ address: UnixAddress) throws(LinuxError) -> Bool {
    let probe = try makeUnixSocket(type: Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue))
    let number = probe.rawValue
    do {
      _ = try retrying("connect", on: path) { unsafe address.withSocketAddress { unsafe connect(number, $0, $1) } }
      return true
    } catch {
      switch error.number {
      case ECONNREFUSED: return false
      case EPROTOTYPE: return true
      default: throw error
      }
    }
  }

  deinit {
    // Somebody may have put another file in its place.
    if let identity, identity == FileIdentity(path: path) { unsafe unlink(path) }
  }
}

/// Which file a path names, without following a symbolic link.
private struct FileIdentity: Equatable {
  private let device: dev_t
  private let node: ino_t
  let isSocket: Bool

  /// Nil when the path names no file.
  init?(path: String) {
    var status = stat()
    guard unsafe lstat(path, &status) == 0 else { return nil }
    device = status.st_dev
    node = status.st_ino
    isSocket = FileStatus.Kind(mode: status.st_mode) == .socket
  }
}
