import GuestRAM
import LinuxIO
import Migration

/// The side of `virtiokit migrate` that takes a guest, into a QEMU that waits for it with `-incoming defer`.
struct GuestTaker {
  private static let mostMemory: UInt64 = 1 << 46
  /// How long nobody may come.
  private static let patience = Duration.seconds(24 * 3600)

  private let command: MigrateCommand
  private let machine: QemuMachine
  private let cancellation: Cancellation
  private let narrator: Narrator

  init(_ command: MigrateCommand, _ machine: QemuMachine, _ cancellation: Cancellation) {
    self.command = command
    self.machine = machine
    self.cancellation = cancellation
    narrator = Narrator(isQuiet: command.asJSON)
  }

  func run(at address: MigrationAddress) throws {
    let status = try machine.status
    guard status.waitsForGuest else {
      throw MoveFailure.unsuitable(status: status.name, advice: Self.advice(on: status))
    }
    let files = try QemuMemory(of: machine)
    let memory = try files.map()
    guard try memory.residentByteCount() == 0 else { throw TakingError.memoryInUse }
    let place = Place(
      memory: memory, layout: files.layout, machineType: try machine.machineType, devices: machine.devices)
    try machine.ignoringSharedMemory { try receive(at: address, into: place) }
  }

  private static func advice(on status: QemuMachine.Status) -> String {
    let anew = "start it with -incoming defer, and with a memory file of its own"
    guard status.name == "paused" else { return anew }
    return "a guest is in it already, which a taking that was ended by force may have left; otherwise \(anew)"
  }

  private func receive(at address: MigrationAddress, into place: Place) throws {
    let listener = try MigrationListener(address, unless: cancellation)
    narrator.say("Waiting for a guest at \(listener.address).")
    while true {
      let link = try listener.accept(within: Self.patience)
      do {
        return try take(over: link, into: place)
      } catch {
        // Once QEMU has begun to load a guest it takes no other.
        guard error is MigrationError, try machine.status.waitsForGuest else { throw error }
        // Whatever has come of it goes, so that the next one finds unused memory.
        for region in place.memory.regions { try place.memory.discard(region.range) }
        guard !cancellation.isCancelled, Self.takesSeveral(address) else { throw error }
        narrator.say("No guest has come: \(error). Waiting for the next.")
      }
    }
  }

  /// Whether others can connect after the first.
  private static func takesSeveral(_ address: MigrationAddress) -> Bool {
    switch address {
    case .unix, .tcp: true
    default: false
    }
  }

  private func take(over link: MigrationLink, into place: Place) throws {
    let limits = DestinationLimits(
      mostMemory: Self.mostMemory, mostState: 2 * QemuMachine.mostState, time: command.timeout,
      pinsMemory: command.pins)
    var destination = Destination(link, producer: "virtiokit \(Virtiokit.version)", limits: limits)
    let arrived = try destination.receive(
      makeMemory: { (_) in place.memory },
      refusing: { (description) in place.reason(toRefuse: description) })
    let standsStillSince = MonotonicClock.now
    let orders: QemuState.Orders
    do {
      let state = try QemuState(decoding: arrived.state)
      orders = state.orders
      try machine.loadState(state.stream)
    } catch {
      destination.refuse("\(error)")
      throw error
    }
    try own(destination, orders, since: standsStillSince)
  }

  /// Takes the guest over and runs it; then gives it back what its balloon has.
  private func own(
    _ destination: consuming Destination<MigrationLink>, _ orders: QemuState.Orders, since standsStillSince: UInt64
  ) throws {
    var arrival = Arrival(wasRunning: orders.runs, runs: orders.runs && !command.staysPaused)
    var failure: QmpError?
    let report: MigrationReport
    do throws(MigrationError) {
      // Before anything is cleaned up here: the guest stands still until it is told to run.
      report = try destination.confirm(starting: {
        guard arrival.runs else { return }
        do throws(QmpError) { try machine.resume() } catch { failure = error }
        arrival.stillSeconds = Double(MonotonicClock.now - standsStillSince) / 1e9
      })
    } catch {
      throw MoveFailure.notMoved(error, remark: "the copy that is paused in this QEMU must not be resumed: end it")
    }
    do throws(QmpError) {
      if let failure { throw failure }
      say(arrival, report)
      if orders.balloonBytes > 0 { try grow(to: orders.balloonBytes, &arrival) }
    } catch {
      throw MoveFailure.arrived(error, acknowledgement: report.acknowledgementError)
    }
    if command.asJSON { Terminal.write("\(arrival.json(report))\n") }
  }

  /// Gives the guest its memory back, and waits for that as long as it gets anywhere; a paused one gets it later.
  private func grow(to byteCount: UInt64, _ arrival: inout Arrival) throws(QmpError) {
    let balloon = QemuBalloon(machine: machine)
    guard arrival.runs else {
      try balloon.set(byteCount)
      return narrator.say("It gets its memory back once it runs.")
    }
    narrator.progress("giving the guest its memory back")
    let start = MonotonicClock.now
    let growth = Arrival.Growth(
      asked: byteCount, after: try balloon.change(to: byteCount),
      seconds: Double(MonotonicClock.now - start) / 1e9)
    arrival.growth = growth
    narrator.say(growth.line)
  }

  private func say(_ arrival: Arrival, _ report: MigrationReport) {
    let still = arrival.stillSeconds.map { "; of the time that it stood still \(Amount.seconds($0)) were spent here" }
    narrator.say("The guest has come, in \(Amount.seconds(report.seconds)), and \(arrival.manner)\(still ?? "").")
    if let error = report.acknowledgementError {
      narrator.say("But \(MoveFailure.remark(onLost: error)).")
    }
  }
}

/// What waits for a guest.
private struct Place {
  let memory: GuestMemory
  let layout: String
  let machineType: String
  let devices: QemuDevices?

  func reason(toRefuse description: GuestDescription) -> String? {
    guard description.note(MoveNote.kind) == "qemu" else { return "it is no guest of QEMU's" }
    if let other = description.note(MoveNote.machine), other != machineType {
      return "its machine is \(other), and \(machineType) waits here: give both QEMUs the same -machine"
    }
    let other = description.note(MoveNote.memory) ?? "files that it does not name"
    if other != layout {
      return "its memory is \(other), and \(layout) waits here: give both QEMUs the same memory-backend-file objects"
    }
    if let devices, let others = description.note(MoveNote.devices),
      let reason = devices.reason(toRefuse: QemuDevices(text: others))
    {
      return reason
    }
    guard description.regions != memory.regions.map(\.range) else { return nil }
    return "its memory of \(description.memoryByteCount) bytes lies elsewhere than here"
  }
}

/// Why no guest can be taken.
enum TakingError: Error, CustomStringConvertible {
  case memoryInUse

  var description: String {
    "the memory of the QEMU that waits holds something: start it anew, with an empty file"
  }
}
