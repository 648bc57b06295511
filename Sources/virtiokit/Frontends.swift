import LinuxIO
import VhostUser
import VirtioCore

/// Whoever uses a device: the front-ends that connect to a socket, or the one that is connected already.
final class Frontends<Device: VirtioDevice & ~Copyable> {
  /// Where they come from.
  enum Entrance {
    case socket(path: String)
    case connection(Int32)

    /// What `--socket-path` and `--fd` say, of which a command line has one.
    init?(socketPath: String?, descriptor: Int?) {
      if let socketPath {
        self = .socket(path: socketPath)
      } else if let number = descriptor.flatMap({ Int32(exactly: $0) }) {
        self = .connection(number)
      } else {
        return nil
      }
    }
  }

  private var server: Server<Device>?
  private var session: Session<Device>?
  private var failure: VhostUserError?

  /// - Parameter report: told what happens, on the loop's thread.
  init(
    of device: ServedDevice<Device>, from entrance: Entrance, loop: EventLoop, offering features: ProtocolFeatures,
    report: @escaping (Session<Device>.Event) -> Void
  ) throws {
    switch entrance {
    case .socket(let path):
      server = try Server(
        device, on: listener(at: path, option: "--socket-path"), loop: loop, offering: features
      ) { event in
        switch event {
        case .connected: Terminal.complain("a front-end has connected")
        case .session(let event): Self.pass(event, to: report)
        case .refused(let error): Terminal.complain("a front-end cannot be served: \(error)")
        }
      }
    case .connection(let number):
      let socket = try inheritedSocket(number)
      session = try Session(Connection(socket), device: device, loop: loop, offering: features) { [weak self] event in
        Self.pass(event, to: report)
        guard case .ended(let error) = event else { return }
        self?.failure = error
        loop.stop()
      }
    }
  }

  private static func pass(_ event: Session<Device>.Event, to report: (Session<Device>.Event) -> Void) {
    report(event)
    switch event {
    case .attached: break
    case .broken(let error): Terminal.complain("the guest's driver broke a queue: \(error)")
    case .ended(let error):
      Terminal.complain(error.map { "the front-end is turned away: \($0)" } ?? "the front-end has gone")
    }
  }

  /// Lets nobody else in, and lets go of whoever is there once its requests are finished.
  func end(whenDrained drained: @escaping () -> Void) {
    if let server { return server.end(whenDrained: drained) }
    session?.end(whenDrained: drained)
  }

  /// Throws what ended the one connection that there was to serve.
  func checkConnection() throws(VhostUserError) {
    if let failure { throw failure }
  }
}
