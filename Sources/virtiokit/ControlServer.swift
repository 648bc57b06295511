import Glibc
import LinuxIO

/// Commands on a socket, from any number of clients up to a bound.
final class ControlServer {
  private static let mostClients = 16
  /// How long a client may leave an answer unread.
  private static let limit = Duration.seconds(1)

  private final class Client {
    let socket: UnixSocket
    var lines = CommandLines()
    var watch: EventLoop.Registration?

    init(_ socket: consuming UnixSocket) {
      self.socket = socket
    }
  }

  private let listener: UnixListener
  private let loop: EventLoop
  private let execute: (String) -> Reply
  private var clients: [ObjectIdentifier: Client] = [:]

  init(path: String, loop: EventLoop, execute: @escaping (String) -> Reply) throws {
    listener = try virtiokit.listener(at: path, option: "--control")
    self.loop = loop
    self.execute = execute
    try loop.watch(listener.descriptor.rawValue) { [unowned self] in accept() }
  }

  private func accept() {
    do throws(LinuxError) {
      let client = Client(try listener.accept())
      guard clients.count < Self.mostClients else { return }
      client.watch = try loop.watch(client.socket.descriptor.rawValue) { [unowned self, unowned client] in
        receive(from: client)
      }
      clients[ObjectIdentifier(client)] = client
    } catch {
      Terminal.complain("control: \(error)")
    }
  }

  private func receive(from client: Client) {
    do throws(LinuxError) {
      let bytes = try client.socket.descriptor.readBytes(upTo: CommandLines.mostBytes)
      guard !bytes.isEmpty, let commands = client.lines.take(bytes) else { return remove(client) }
      for command in commands {
        try client.socket.send(Array(execute(command).text.utf8), within: Self.limit)
      }
    } catch {
      // A client that leaves without its answer is its own business.
      if ![EPIPE, ECONNRESET].contains(error.number) { Terminal.complain("control: \(error)") }
      remove(client)
    }
  }

  private func remove(_ client: Client) {
    if let watch = client.watch { loop.cancel(watch) }
    clients[ObjectIdentifier(client)] = nil
  }
}
