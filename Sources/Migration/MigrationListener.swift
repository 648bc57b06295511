import Glibc
public import LinuxIO
import Synchronization

/// Where a destination waits for its source.
///
/// At a socket several connections can be accepted, as a migration may use more than one; its path follows the rules of
/// `UnixListener` and is removed with the value. All other addresses give one connection: a command is started and a file
/// opened at once, so that what is wrong with them shows before anybody waits.
public final class MigrationListener: Sendable {
  /// Where sources find it: for a TCP port of 0, with the one that the kernel chose.
  public let address: MigrationAddress
  private let way: Way
  private let cancellation: Cancellation?

  private enum Way: ~Copyable {
    case socket(Socket)
    case link(Mutex<MigrationLink?>)
  }

  /// Starts to listen.
  /// - Parameter cancellation: what ends `accept`, and all connections that it has given.
  public init(_ address: MigrationAddress, unless cancellation: Cancellation? = nil) throws(MigrationError) {
    self.cancellation = cancellation
    switch address {
    case .unix(let path):
      self.address = address
      way = .socket(
        try connecting { () throws(LinuxError) in try Self.listen(at: [SocketAddress.unix(path: path)]) })
    case .tcp(let host, let port):
      let socket = try connecting { () throws(LinuxError) in
        try Self.listen(at: SocketAddress.internet(host: host, port: port))
      }
      self.address = .tcp(
        host: host, port: try connecting { () throws(LinuxError) in try socket.localAddress.port } ?? port)
      way = .socket(socket)
    case .descriptor, .descriptors, .file, .command:
      self.address = address
      way = .link(Mutex(try MigrationLink.open(address, cancellation)))
    }
  }

  private static func listen(at addresses: [SocketAddress]) throws(LinuxError) -> Socket {
    var failure: LinuxError?
    for address in addresses {
      do throws(LinuxError) {
        var socket = try Socket(.stream, for: address)
        try socket.bind(to: address)
        try socket.listen()
        return socket
      } catch {
        failure = failure ?? error
      }
    }
    throw failure ?? LinuxError(call: "bind", number: EADDRNOTAVAIL)
  }

  /// Takes the next connection, and waits for one when there is none.
  /// - Parameter limit: `peerStalled` is thrown when nobody has come after so long.
  public func accept(within limit: Duration) throws(MigrationError) -> MigrationLink {
    switch way {
    case .socket(let listening):
      let socket = try connecting { () throws(LinuxError) in
        try listening.accept(within: limit, unless: cancellation)
      }
      return try MigrationLink(address, over: socket, cancellation)
    case .link(let link):
      let link = link.withLock { $0.take() }
      guard let link else { throw .onlyOneConnection(address) }
      return link
    }
  }
}
