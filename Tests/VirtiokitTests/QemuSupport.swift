import Foundation
import LinuxIO
import Synchronization

@testable import virtiokit

/// A QMP server for one client that says what a test has written down.
final class ScriptedQmp: Sendable {
  static let greeting = #"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": []}}"#

  /// What the server does with a line that it was sent.
  enum Act {
    case say(String)
    /// Sends it without a line's end, and then nothing more.
    case dribble(String)
    case close
  }

  struct Request {
    let command: String
    let arguments: JSON
    let id: JSON
    /// The descriptor that came with it; its number is what the test has to let go of.
    let descriptor: Int32?

    func answer(_ value: JSON = .object([])) -> Act { .say("\(JSON.object([("return", value), ("id", id)]))\n") }

    func error(_ reason: String) -> Act {
      let error = JSON.object([("class", .text("GenericError")), ("desc", .text(reason))])
      return .say("\(JSON.object([("error", error), ("id", id)]))\n")
    }
  }

  let path = NSTemporaryDirectory() + "qmp-\(UUID().uuidString.prefix(8))"

  /// - Parameters:
  ///   - greeting: what it says first; nil for nothing.
  ///   - respond: what it says to a command, line by line.
  init(
    greeting: String? = ScriptedQmp.greeting, _ respond: @escaping @Sendable (Request) -> [Act] = { [$0.answer()] }
  ) throws {
    let listener = try UnixListener(path: path)
    _ = try Thread(name: "qmp") {
      do throws(LinuxError) {
        let socket = try listener.accept()
        if let greeting { try socket.send(Array("\(greeting)\n".utf8)) }
        while let request = try Self.next(from: socket) {
          for act in respond(request) {
            switch act {
            case .say(let text): try socket.send(Array(text.utf8))
            case .dribble(let text): try socket.send(Array(text.utf8))
            case .close: return
            }
          }
        }
      } catch {
        // The client is gone, which is how each test ends.
        return
      }
    }
  }

  private static func next(from socket: borrowing UnixSocket) throws(LinuxError) -> Request? {
    var line: [UInt8] = []
    var descriptor: Int32?
    while var received = try socket.receive(exactly: 1, maximumDescriptors: 1) {
      if let taken = received.descriptors.takeFirst() { descriptor = taken.release() }
      guard received.bytes[0] == UInt8(ascii: "\n") else {
        line += received.bytes
        continue
      }
      let message = JSON(parsing: String(decoding: line, as: UTF8.self))
      return Request(
        command: message?["execute"]?.text ?? "", arguments: message?["arguments"] ?? .null,
        id: message?["id"] ?? .null,
        descriptor: descriptor)
    }
    return nil
  }
}

/// As much of a QEMU as moving its guest needs: a memory file, and devices whose state is a few bytes.
final class FakeQemu: Sendable {
  static let deviceState = (0..<5000).map { UInt8(truncatingIfNeeded: $0 &* 7) }

  struct State {
    var status: String
    var stream = "none"
    var calls: [String] = []
    var balloon: UInt64
    /// What QEMU has told its guest to have.
    var balloonTarget: UInt64
    /// The least that its guest makes do with, whatever it is told.
    var leastBalloon: UInt64 = 0
    /// What its guest's programs need, so that it says what is available beside; nil where it says nothing.
    var used: UInt64?
    /// With less than this its guest swaps and kills a program.
    var hurtBelow: UInt64 = 0
    var swappedOut: UInt64 = 0
    var outOfMemoryKills: UInt64 = 0
    var statisticsInterval: UInt64 = 0
    /// How many reports of its memory its guest has made: one whenever somebody looks, which need not wait for a second.
    var reportCount: UInt64 = 0
    var channel: Int32?
    var loaded: [UInt8] = []
    var ignoresSharedMemory = false
    /// Whether memory was left out of each state that was saved or loaded.
    var leftMemoryOut: [Bool] = []
  }

  /// What is not as it should be.
  struct Fault: OptionSet {
    let rawValue: Int
    static let refusesState = Fault(rawValue: 1)
    static let failsToSave = Fault(rawValue: 2)
    static let isNotShared = Fault(rawValue: 4)
    static let isNoFile = Fault(rawValue: 8)
    static let killsPrograms = Fault(rawValue: 16)
    static let doesNotRun = Fault(rawValue: 32)
    static let cannotAnnounce = Fault(rawValue: 64)
    static let hasNoBalloon = Fault(rawValue: 128)
    static let hasTwoProcessors = Fault(rawValue: 256)
  }

  let server: ScriptedQmp
  let memoryPath: String
  let state: Shared

  final class Shared: Sendable {
    private let state: Mutex<State>
    init(_ state: State) { self.state = Mutex(state) }
    func with<Result: Sendable>(_ body: (inout State) -> Result) -> Result { state.withLock { body(&$0) } }
    var value: State { state.withLock { $0 } }
  }

  init(waits: Bool, megabytes: Int = 8, machine: String = "pc-q35-7.2-machine", _ fault: Fault = []) throws {
    memoryPath = "/dev/shm/virtiokit-test-\(UUID().uuidString.prefix(8))"
    let file = try FileDescriptor.open(memoryPath, for: .readingAndWriting, creating: .always)
    let size = megabytes << 20
    try file.truncate(toByteCount: size)
    let state = Shared(
      State(status: waits ? "inmigrate" : "running", balloon: UInt64(size), balloonTarget: UInt64(size)))
    self.state = state
    let memoryPath = memoryPath
    server = try ScriptedQmp { (request) in
      state.with { (state) in
        Self.respond(request, &state, memoryPath, UInt64(size), machine, fault)
      }
    }
  }

  deinit { try? FileManager.default.removeItem(atPath: memoryPath) }

  private static func respond(
    _ request: ScriptedQmp.Request, _ state: inout State, _ path: String, _ size: UInt64, _ machine: String,
    _ fault: Fault
  ) -> [ScriptedQmp.Act] {
    state.calls.append(request.command)
    switch request.command {
    case "query-status":
      return [
        request.answer(.object([("status", .text(state.status)), ("running", .bool(state.status == "running"))]))
      ]
    case "query-version":
      let numbers = JSON.object([("major", .number(7)), ("minor", .number(2)), ("micro", .number(22))])
      return [request.answer(.object([("qemu", numbers)]))]
    case "query-pci":
      let device = JSON.object([("slot", .number(3)), ("id", .object([("vendor", .number(0x1AF4))]))])
      return [request.answer(.array([.object([("devices", .array([device]))])]))]
    case "query-cpus-fast":
      let count = fault.contains(.hasTwoProcessors) ? 2 : 1
      return [request.answer(.array([JSON](repeating: .object([]), count: count)))]
    case "query-memdev":
      return [
        request.answer(
          .array([
            .object([("id", .text("ram")), ("size", .number(size)), ("share", .bool(!fault.contains(.isNotShared)))])
          ]))
      ]
    case "qom-get":
      switch (request.arguments["path"]?.text, request.arguments["property"]?.text) {
      case ("/machine", "type"): return [request.answer(.text(machine))]
      case (_, "type"):
        return [request.answer(.text(fault.contains(.isNoFile) ? "memory-backend-memfd" : "memory-backend-file"))]
      case (_, "mem-path"): return [request.answer(.text(path))]
      case (_, "guest-stats"): return [request.answer(report(&state))]
      case (_, "guest-stats-polling-interval"): return [request.answer(.number(state.statisticsInterval))]
      default: return [request.error("no such property")]
      }
    case "query-balloon":
      if fault.contains(.hasNoBalloon) { return [request.error("No balloon device has been activated")] }
      return [request.answer(.object([("actual", .number(state.balloon))]))]
    case "qom-set":
      state.statisticsInterval = request.arguments["value"]?.number ?? 0
      return [request.answer()]
    case "qom-list":
      let device = JSON.object([("name", .text("b")), ("type", .text("child<virtio-balloon-pci>"))])
      return [request.answer(.array([device]))]
    case "balloon":
      state.balloonTarget = request.arguments["value"]?.number ?? 0
      state.balloon = max(state.balloonTarget, state.leastBalloon)
      if state.balloon < state.hurtBelow {
        state.swappedOut += 64 << 20
        if fault.contains(.killsPrograms) { state.outOfMemoryKills += 1 }
      }
      return [request.answer()]
    case "stop":
      state.status = "paused"
      return [.say(#"{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}"# + "\n"), request.answer()]
    case "cont":
      if fault.contains(.doesNotRun) { return [request.error("a disk is in use")] }
      state.status = "running"
      return [request.answer()]
    case "announce-self":
      // It takes all of them, and nothing else.
      let figures = ["initial", "max", "rounds", "step"].map { request.arguments[$0]?.number }
      let isRight = figures.allSatisfy { $0 != nil } && !fault.contains(.cannotAnnounce)
      return [isRight ? request.answer() : request.error("The command announce-self has not been found")]
    case "query-migrate-capabilities":
      let capability = JSON.object([
        ("capability", .text("x-ignore-shared")), ("state", .bool(state.ignoresSharedMemory)),
      ])
      return [request.answer(.array([capability]))]
    case "migrate-set-capabilities":
      state.ignoresSharedMemory = request.arguments["capabilities"]?.array?.first?["state"]?.bool ?? false
      return [request.answer()]
    case "getfd":
      state.channel = request.descriptor
      return [request.answer()]
    case "migrate":
      state.leftMemoryOut.append(state.ignoresSharedMemory)
      save(&state, fails: fault.contains(.failsToSave))
      return [request.answer()]
    case "migrate-incoming":
      state.leftMemoryOut.append(state.ignoresSharedMemory)
      load(&state, fails: fault.contains(.refusesState))
      return [request.answer()]
    case "query-migrate": return [request.answer(.object([("status", .text(state.stream))]))]
    default: return [request.answer()]
    }
  }

  /// What QEMU has of its guest's memory.
  private static func report(_ state: inout State) -> JSON {
    if state.statisticsInterval > 0 { state.reportCount += 1 }
    let available = state.used.map { state.balloon - min($0, state.balloon) }
    let stats = JSON.object([
      ("stat-available-memory", .number(available ?? .max)), ("stat-swap-out", .number(state.swappedOut)),
      ("stat-oom-kills", .number(state.outOfMemoryKills)), ("stat-disk-caches", .number(.max)),
    ])
    return .object([("last-update", .number(state.reportCount)), ("stats", stats)])
  }

  private static func save(_ state: inout State, fails: Bool) {
    guard let channel = state.channel.take() else { return }
    let socket = FileDescriptor(owning: channel)
    try? socket.writeAll(fails ? [] : deviceState)
    state.stream = fails ? "failed" : "completed"
    state.status = "postmigrate"
  }

  private static func load(_ state: inout State, fails: Bool) {
    guard let channel = state.channel.take() else { return }
    // Small enough to be on its way before anybody reads it; so it is taken once it is asked how it goes.
    let copy = FileDescriptor(owning: channel)
    state.stream = fails ? "failed" : "completed"
    if !fails { state.status = "paused" }
    _ = copy.release()
    state.channel = channel
  }

  /// What was loaded.
  func takeLoaded() throws -> [UInt8] {
    guard let channel = state.with({ $0.channel.take() }) else { return [] }
    return try FileDescriptor(owning: channel).readBytes(upTo: 1 << 20)
  }
}
