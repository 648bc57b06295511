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
      throw MoveFailure.unsuitable(
        status: status.name, advice: "start it with -incoming defer, and with a memory file of its own")
    }
    let memory = try QemuMemory(of: machine).map()
    guard try memory.residentByteCount() == 0 else { throw TakingError.memoryInUse }
    try machine.ignoreSharedMemory()
    let machineType = try machine.machineType
    let listener = try MigrationListener(address, unless: cancellation)
    narrator.say("Waiting for a guest at \(listener.address).")
    while true {
      let link = try listener.accept(within: Self.patience)
      do {
        return try take(over: link, memory, machineType)
      } catch {
        // Once QEMU has begun to load a guest it takes no other.
        guard error is MigrationError, try machine.status.waitsForGuest else { throw error }
        // Whatever has come of it goes, so that the next one finds unused memory.
        for region in memory.regions { try memory.discard(region.range) }
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

  private func take(over link: MigrationLink, _ memory: GuestMemory, _ machineType: String) throws {
    let limits = DestinationLimits(
      mostMemory: Self.mostMemory, mostState: 2 * QemuMachine.mostState, time: command.timeout)
    var destination = Destination(link, producer: "virtiokit \(Virtiokit.version)", limits: limits)
    let arrived = try destination.receive(
      makeMemory: { (_) in memory },
      refusing: { (description) in Self.reason(toRefuse: description, memory, machineType) })
    let orders: QemuState.Orders
    do {
      let state = try QemuState(decoding: arrived.state)
      orders = state.orders
      try machine.loadState(state.stream)
    } catch {
      destination.refuse("\(error)")
      throw error
    }
    let report: MigrationReport
    do throws(MigrationError) {
      report = try destination.confirm()
    } catch {
      throw MoveFailure.notMoved(error, remark: "the copy that is paused in this QEMU must not be resumed: end it")
    }
    do throws(QmpError) {
      if orders.runs, !command.staysPaused { try machine.resume() }
      if orders.balloonBytes > 0 { try QemuBalloon(machine: machine).set(orders.balloonBytes) }
    } catch {
      throw MoveFailure.arrived(error)
    }
    tell(report, orders)
  }

  private static func reason(
    toRefuse description: GuestDescription, _ memory: GuestMemory, _ machineType: String
  ) -> String? {
    guard description.note(MoveNote.kind) == "qemu" else { return "it is no guest of QEMU's" }
    if let other = description.note(MoveNote.machine), other != machineType {
      return "its machine is \(other), and \(machineType) waits here: give both QEMUs the same -machine"
    }
    guard description.regions != memory.regions.map(\.range) else { return nil }
    return "it has \(description.memoryByteCount) bytes of memory in \(description.regions.count) files, and here are "
      + "\(memory.byteCount) in \(memory.regions.count)"
  }

  private func tell(_ report: MigrationReport, _ orders: QemuState.Orders) {
    if command.asJSON {
      let object = JSON.object([
        ("arrived", .bool(true)), ("runs", .bool(orders.runs && !command.staysPaused)),
        ("seconds", .real(report.seconds)),
        ("wire_bytes", .number(report.wireByteCount)),
      ])
      return Terminal.write("\(object)\n")
    }
    let manner =
      if orders.runs { command.staysPaused ? "is paused, until QEMU is told cont" : "runs" } else {
        "is paused, as it was"
      }
    narrator.say("The guest has come, in \(Amount.seconds(report.seconds)), and \(manner).")
    if let error = report.acknowledgementError {
      narrator.say("The other side may not have heard so (\(error)): it must not resume its copy.")
    }
  }
}

/// Why no guest can be taken.
enum TakingError: Error, CustomStringConvertible {
  case memoryInUse

  var description: String {
    "the memory of the QEMU that waits holds something: start it anew, with an empty file"
  }
}
