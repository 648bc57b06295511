import DeviceState
import GuestRAM
import LinuxIO
import Migration
import SimulatedGuest
import Support
import VirtioCore

/// A guest with its devices, on one side.
struct Machine: Sendable {
  let memory: GuestMemory
  let side: Side
  let runner: GuestRunner

  /// Boots a guest.
  init(_ configuration: GuestConfiguration, pageCount: UInt64, _ side: Side) throws {
    let memory = try GuestMemory(byteCount: pageCount * 4096)
    try side.group.attach(memory, within: patience)
    (self.memory, self.side) = (memory, side)
    runner = try GuestRunner(isPaused: false) { try Guest.boot(configuration, in: memory, side.devices) }
  }

  /// Restores a guest that has arrived, and lets neither it nor its devices run.
  init(_ arrived: ArrivedGuest, _ side: Side) throws {
    var snapshot = try Snapshot(decoding: arrived.state)
    let memory = arrived.memory
    try side.group.restore(from: &snapshot, in: memory, within: patience)
    let state = try snapshot.take(GuestState.self)
    try snapshot.checkAllTaken()
    (self.memory, self.side) = (memory, side)
    runner = try GuestRunner(isPaused: true) { try Guest(restoring: state, in: memory, side.devices) }
  }

  /// Stops the guest and then its devices, and saves both.
  /// - Parameter operate: what an operator does when all stands still.
  func save(_ operate: (Side) throws -> Void = { _ in }) throws(MigrationError) -> [UInt8] {
    do {
      try runner.pause()
      try side.group.pause(within: patience)
      try operate(side)
      var snapshot = Snapshot()
      try side.group.save(into: &snapshot)
      // Last, for what the devices had to tell until then is among the guest's registers.
      try snapshot.add(runner.ask { $0.save() })
      return snapshot.encoded()
    } catch {
      throw .guest("the guest cannot be saved: \(error)")
    }
  }

  func resume() throws {
    try side.group.resume()
    runner.resume()
  }
}

/// The engine's side of a machine.
struct MovingGuest: LiveGuest, ~Copyable {
  let machine: Machine
  let operate: (Side) throws -> Void
  private var writes: GuestWrites?

  init(_ machine: Machine, operate: @escaping (Side) throws -> Void) {
    self.machine = machine
    self.operate = operate
  }

  var memory: GuestMemory { machine.memory }

  mutating func beginTracking() throws(MigrationError) {
    let writes = try GuestWrites(memory)
    try attach(writes.deviceMemory)
    self.writes = consume writes
  }

  mutating func takeWrites() throws(MigrationError) -> [GuestRange] { try writes?.take() ?? [] }

  mutating func endTracking() {
    guard let writes = writes.take() else { return }
    writes.end()
    // A log that nobody looks at does no harm.
    try? attach(memory)
  }

  mutating func pause() throws(MigrationError) -> [UInt8] { try machine.save(operate) }

  mutating func resume() {
    // The test looks at the guest afterwards, and finds that it stands still.
    try? machine.resume()
  }

  private func attach(_ memory: GuestMemory) throws(MigrationError) {
    do throws(HostError) {
      try machine.side.group.attach(memory, within: patience)
    } catch {
      throw .guest("\(error)")
    }
  }
}

/// How a guest gets from one side to the other.
enum Way: CaseIterable, Sendable {
  case live, standing, following, followingAfterPass, handedOver

  var isAvailable: Bool {
    switch self {
    case .live: !WriteTracker.available.isEmpty
    case .following: MissingPages.isAvailable
    case .followingAfterPass: MissingPages.isAvailable && !WriteTracker.available.isEmpty
    case .standing, .handedOver: true
    }
  }

  private var policy: MigrationPolicy {
    var policy = MigrationPolicy(downtimeLimit: .milliseconds(20), stopsAnyway: true, verifies: false)
    policy.mostPasses = 4
    switch self {
    case .live: policy.verifies = true
    case .following: policy.postcopy = .afterPasses(0)
    case .followingAfterPass: policy.postcopy = .afterPasses(1)
    case .standing, .handedOver: break
    }
    return policy
  }

  /// Sends a guest that runs, or stops it first.
  func send<Link: Channel>(
    _ machine: Machine, over link: Link, _ operate: @escaping (Side) throws -> Void
  ) throws(MigrationError) -> MigrationReport {
    let source = Source(link, producer: "A", timeLimit: patience)
    var guest = MovingGuest(machine, operate: operate)
    switch self {
    case .handedOver: return try source.handOver(&guest)
    case .live, .following, .followingAfterPass: return try source.move(&guest, policy: policy)
    case .standing:
      let pausedAt = MonotonicClock.now
      let state = try guest.pause()
      return try source.move(machine.memory, state: state, pausedAt: pausedAt)
    }
  }
}
