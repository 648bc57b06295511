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

  /// - Parameters:
  ///   - name: what people are told that it is about, such as `card 0`; nothing when there is one device alone.
  ///   - report: told what happens, on the loop's thread.
  init(
    of device: ServedDevice<Device>, named name: String? = nil, from entrance: Entrance, loop: EventLoop,
    offering features: ProtocolFeatures, report: @escaping (Session<Device>.Event) -> Void
  ) throws {
    let complain = { (event: String) in Terminal.complain(name.map { "\($0): \(event)" } ?? event) }
    let pass = { (event: Session<Device>.Event) in
      report(event)
      if let sentence = Self.sentence(on: event) { complain(sentence) }
    }
    switch entrance {
    case .socket(let path):
      server = try Server(
        device, on: listener(at: path, option: "--socket-path"), loop: loop, offering: features
      ) { event in
        switch event {
        case .connected: complain("a front-end has connected")
        case .session(let event): pass(event)
        case .refused(let error): complain("a front-end cannot be served: \(error)")
        }
      }
    case .connection(let number):
      let socket = try inheritedSocket(number)
      session = try Session(Connection(socket), device: device, loop: loop, offering: features) { [weak self] event in
        pass(event)
        guard case .ended(let error) = event else { return }
        self?.failure = error
        loop.stop()
      }
    }
  }

  /// What people are told of an event, if anything.
  private static func sentence(on event: Session<Device>.Event) -> String? {
    switch event {
    case .attached: nil
    case .broken(let error): "the guest's driver broke a queue: \(error)"
    case .untracked(let ring):
      "queue \(ring) is longer than its in-flight area: its requests would not survive a back-end that is killed"
    case .ended(let error): error.map { "the front-end is turned away: \($0)" } ?? "the front-end has gone"
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
