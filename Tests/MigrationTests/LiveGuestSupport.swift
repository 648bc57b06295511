import GuestRAM
import LinuxIO

@testable import Migration

/// A guest that writes what a test has written down: something each time that the engine asks for its writes.
struct ScriptedGuest: LiveGuest {
  /// What happens to memory before one of the engine's questions, and which pages it touches.
  struct Act {
    let ranges: [GuestRange]
    let body: (GuestMemory) throws -> Void
  }

  enum Call: Equatable {
    case begin, end, pause, resume
    case slowDown(Double)
  }

  let memory: GuestMemory
  var script: [Act]
  /// What is done again and again once the script is over.
  var habit: Act?
  var calls: [Call] = []
  /// The pages that are named as free, each time that the engine asks for them.
  var hints: [[GuestRange]] = []
  /// How often the engine has begun to ask for hints, and ended.
  private(set) var hintRounds = (begun: 0, ended: 0)
  let state: [UInt8]
  /// Does something, or fails, before the guest does what the engine asks of it; counts all that it asks.
  var interrupt: (Int) throws(MigrationError) -> Void = { _ in }
  private(set) var questionCount = 0

  init(_ guest: SampleGuest, _ script: [Act] = [], habit: Act? = nil) {
    (memory, state) = (guest.memory, guest.state)
    (self.script, self.habit) = (script, habit)
  }

  private mutating func asked() throws(MigrationError) {
    defer { questionCount += 1 }
    try interrupt(questionCount)
  }

  mutating func beginTracking() throws(MigrationError) {
    calls.append(.begin)
    try asked()
  }

  mutating func endTracking() { calls.append(.end) }

  mutating func beginHints() { hintRounds.begun += 1 }
  mutating func takeHints() -> [GuestRange] { hints.isEmpty ? [] : hints.removeFirst() }
  mutating func endHints() { hintRounds.ended += 1 }

  mutating func takeWrites() throws(MigrationError) -> [GuestRange] {
    try asked()
    guard let act = script.isEmpty ? (calls.contains(.pause) ? nil : habit) : script.removeFirst() else { return [] }
    do {
      try act.body(memory)
    } catch {
      throw .guest("\(error)")
    }
    return act.ranges
  }

  mutating func pause() throws(MigrationError) -> [UInt8] {
    calls.append(.pause)
    try asked()
    return state
  }

  mutating func resume() { calls.append(.resume) }
  mutating func slowDown(to share: Double) { calls.append(.slowDown(share)) }
}

extension ScriptedGuest.Act {
  /// Fills pages with a byte.
  static func fill(_ range: GuestRange, with byte: UInt8) -> ScriptedGuest.Act {
    ScriptedGuest.Act(ranges: [range]) {
      try $0.write(bytes: [UInt8](repeating: byte, count: Int(range.byteCount)), at: range.start)
    }
  }

  /// Gives pages back to the host.
  static func discard(_ range: GuestRange) -> ScriptedGuest.Act {
    ScriptedGuest.Act(ranges: [range]) { try $0.discard(range) }
  }
}

/// A live move between two threads, and the guest as it was left.
struct LiveMove {
  let source: Outcome<MigrationReport>
  let destination: Outcome<Move.Arrived>
  let guest: ScriptedGuest
  let events: [MigrationEvent]

  var passes: [MigrationReport.Pass] {
    events.compactMap { if case .pass(_, let pass) = $0 { pass } else { nil } }
  }
}

func moveLive(
  _ guest: ScriptedGuest, over links: TestLinks, policy: MigrationPolicy = MigrationPolicy(verifies: true),
  unless cancellation: Cancellation? = nil, limits: DestinationLimits = limits,
  watch: (MigrationEvent) -> Void = { _ in },
  makeMemory: @escaping @Sendable (GuestDescription) throws(GuestMemoryError) -> GuestMemory = {
    (description) throws(GuestMemoryError) in try description.makeMemory()
  }
) throws -> LiveMove {
  let received = try Handover<Outcome<Move.Arrived>>()
  let thread = try Thread(name: "destination") {
    received.put(
      outcome { () throws(MigrationError) in
        var destination = Destination(links.destination, producer: "destination", limits: limits)
        let guest = try destination.receive(makeMemory: makeMemory)
        return Move.Arrived(guest: guest, report: try destination.confirm())
      })
    links.destination.shutDown()
  }
  var (guest, seen) = (guest, [MigrationEvent]())
  let sent: Outcome<MigrationReport>
  do throws(MigrationError) {
    sent = .success(
      try Source(links.source, producer: "source", timeLimit: limits.time)
        .move(&guest, policy: policy, unless: cancellation) {
          seen.append($0)
          watch($0)
        })
  } catch {
    sent = .failure(error)
  }
  links.source.shutDown()
  thread.join()
  return LiveMove(source: sent, destination: received.wait(), guest: guest, events: seen)
}
