import Foundation
import Glibc
import LinuxIO

/// A child process that hosts a guest, seen from the demo. It ends with its connection.
struct HostProcess: ~Copyable {
  /// What the demo calls the process.
  let name: String
  private let process: ChildProcess
  private let connection: HostConnection
  private let progress: (String) -> Void

  /// The hidden first argument by which the program knows that it is to host a guest.
  static let roleArgument = "host-a-guest"
  /// How long a process may be silent before it counts as hung: many times what moving 16 GiB takes.
  private static let silence = Duration.seconds(120)

  private init(
    name: String, process: ChildProcess, connection: consuming HostConnection, progress: @escaping (String) -> Void
  ) {
    self.name = name
    self.process = process
    self.connection = connection
    self.progress = progress
  }

  /// Starts the process; what it tells on the way to an answer goes to `progress`.
  static func start(name: String, progress: @escaping (String) -> Void) throws -> HostProcess {
    let pair = try UnixSocket.pair()
    let process = try ChildProcess(
      try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"), [roleArgument],
      streams: .init(input: .descriptor(pair.second.descriptor.rawValue)), hasOwnGroup: true)
    // The child has its own now; without ours its end shows when it ends.
    let socket = UnixSocket(owning: try pair.first.descriptor.duplicate())
    return HostProcess(name: name, process: process, connection: HostConnection(socket), progress: progress)
  }

  deinit {
    process.kill(SIGTERM)
    process.waitUntilExit()
  }

  /// Asks and waits for the answer.
  func ask(_ request: HostRequest) throws -> HostView {
    try begin(request)
    return try finish()
  }

  func begin(_ request: HostRequest) throws {
    try connection.send(request)
  }

  /// Waits until the process listens for a guest.
  func waitUntilListening() throws {
    guard case .listening = try next() else { throw DemoError.hostEnded("\(name) did not listen") }
  }

  /// Waits for the answer to what was begun.
  func finish() throws -> HostView {
    guard case .done(let view) = try next() else { throw DemoError.hostEnded("\(name) said something else") }
    return view
  }

  private func next() throws -> HostReply {
    while true {
      guard let reply = try connection.receive(HostReply.self, within: Self.silence) else {
        throw DemoError.hostEnded("\(name) \(process.waitUntilExit())")
      }
      switch reply {
      case .progress(let text): progress(text)
      case .failed(let text): throw DemoError.hostFailed("\(name): \(text)")
      case .listening, .done: return reply
      }
    }
  }
}
