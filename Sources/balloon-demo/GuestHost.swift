import LinuxIO
import Migration
import Options
import SimulatedGuest

/// The process that hosts a guest: does what the demo asks until the demo hangs up.
struct GuestHost {
  private let link: DemoLink
  private var machine: Machine?

  private static let mostMemory: UInt64 = 16 << 30
  /// How long source and destination wait for each other to begin.
  private static let patience = Duration.seconds(30)

  /// Serves the connection that is this process's standard input.
  static func main() -> Int32 {
    do {
      let socket = UnixSocket(owning: FileDescriptor(owning: 0))
      var host = GuestHost(link: DemoLink(HostConnection(socket)))
      while let request = try host.link.next() { try host.answer(request) }
      return ExitCode.success.rawValue
    } catch {
      // The demo has gone in the middle of an answer, and there is nobody to tell.
      return ExitCode.failure.rawValue
    }
  }

  private init(link: DemoLink) {
    self.link = link
  }

  private mutating func answer(_ request: HostRequest) throws {
    let reply: HostReply
    do {
      reply = .done(try view(after: request))
    } catch {
      reply = .failed("\(error)")
    }
    try link.send(reply)
  }

  private mutating func view(after request: HostRequest) throws -> HostView {
    let link = link
    switch request {
    case .boot(let byteCount, let seed, let kind, let pins):
      machine = try Machine(memoryByteCount: byteCount, seed: seed, workload: kind.workload, pins: pins) {
        try link.tell($0)
      }
    case .receive(let path, let pins): machine = try receive(at: path, pins: pins)
    case .send(let path, let way):
      return HostView(move: try send(to: path, way))
    case .fill: try machine?.fill { try link.tell($0) }
    case .shrink(let target, let floor):
      let shrink = try machine?.shrink(to: target, leastAvailable: floor) { try link.tell($0) }
      return try view(shrink: shrink)
    case .grow:
      let grow = try machine?.grow { try link.tell($0) }
      return try view(growSeconds: grow)
    }
    return try view()
  }

  private func view(shrink: ShrinkView? = nil, growSeconds: Double? = nil) throws -> HostView {
    guard let machine else { throw DemoError.hostFailed("there is no guest here") }
    var view = try machine.view()
    (view.shrink, view.growSeconds) = (shrink, growSeconds)
    return view
  }

  /// Moves the guest. It is here no more afterwards, nor when nobody knows which side has it.
  private mutating func send(to path: String, _ way: MemoryMove) throws -> MoveView? {
    do {
      let path = MigrationAddress.unix(path: path)
      let move = try machine?.move(
        over: MigrationLink.connect(to: path, within: Self.patience), way
      ) { try link.tell($0) }
      machine = nil
      return move
    } catch let error as MigrationError where !error.sourceMayRun {
      machine = nil
      throw error
    }
  }

  private func receive(at path: String, pins: Bool) throws -> Machine {
    let listener = try MigrationListener(.unix(path: path))
    try link.send(.listening)
    return try Machine.receive(over: listener.accept(within: Self.patience), mostMemory: Self.mostMemory, pins: pins)
  }
}

/// The host process's end of the connection with the demo.
final class DemoLink {
  private let connection: HostConnection
  private var lastProgress: UInt64 = 0

  /// How often progress is told, in nanoseconds.
  private static let progressInterval: UInt64 = 100_000_000

  init(_ connection: consuming HostConnection) {
    self.connection = connection
  }

  /// The next request, or nil when the demo has hung up.
  func next() throws -> HostRequest? {
    try connection.receive(HostRequest.self, within: nil)
  }

  func send(_ reply: HostReply) throws {
    try connection.send(reply)
  }

  /// Tells progress, unless that was done a moment ago.
  func tell(_ text: @autoclosure () -> String) throws {
    let now = MonotonicClock.now
    guard now - lastProgress >= Self.progressInterval else { return }
    lastProgress = now
    try send(.progress(text()))
  }
}

extension DemoOptions.WorkloadKind {
  var workload: Workload {
    switch self {
    case .idle: .idle
    case .pageCache: .pageCache
    case .dirtying: .dirtying
    case .pressure: .pressure
    }
  }
}
