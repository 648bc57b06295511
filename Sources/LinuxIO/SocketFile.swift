import CLinux
import Glibc

/// The file of a socket that this process has bound to a path; it is removed with its value.
struct SocketFile: ~Copyable, Sendable {
  private let path: String
  private let identity: FileIdentity?

  /// - Parameter path: where a socket has just been bound.
  init(path: String) {
    self.path = path
    identity = FileIdentity(path: path)
  }

  /// Removes a socket file that nobody holds any more.
  ///
  /// `EADDRINUSE` is thrown when somebody does, `EEXIST` when the file is not a socket: neither is touched.
  static func removeLeftOver(at path: String) throws(LinuxError) {
    let address = try UnixAddress(path: path)
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
