import GuestRAM
import LinuxIO
import Migration
import Options

/// The side of `virtiokit migrate` that gives a guest away.
struct GuestGiver {
  let command: MigrateCommand
  let machine: QemuMachine
  let cancellation: Cancellation
  let narrator: Narrator

  init(_ command: MigrateCommand, _ machine: QemuMachine, _ cancellation: Cancellation) {
    self.command = command
    self.machine = machine
    self.cancellation = cancellation
    narrator = Narrator(isQuiet: command.asJSON)
  }

  /// - Parameter address: nil to forecast without a connection.
  func run(to address: MigrationAddress?) throws {
    let status = try machine.status
    if let advice = Self.advice(on: status) { throw MoveFailure.unsuitable(status: status.name, advice: advice) }
    let files = try QemuMemory(of: machine)
    let memory = try files.map()
    var record = MoveRecord(
      memory: memory.byteCount, layout: files.layout, resident: try memory.residentByteCount(),
      qemu: try machine.version, machine: try machine.machineType, wasRunning: status.isRunning)
    // Opened now, as a guest that has been moved comes back for no page.
    let page = try command.report.map { (path) in try ReportFile(path) }
    narrator.say(record.opening)
    do {
      if !command.forecasts { try shrink(&record, memory) }
      try move(to: address, memory, &record)
    } catch {
      let failure = asFailure(error, record)
      record.failure = failure.exitStatus == 4 ? nil : "\(failure)"
      publish(record, as: page)
      throw failure
    }
    if record.report != nil { narrator.say(record.summary) }
    publish(record, as: page)
    if record.report != nil, command.quits { endSource() }
  }

  private static func advice(on status: QemuMachine.Status) -> String? {
    switch status.name {
    case "running", "paused", "prelaunch", "suspended": nil
    case "inmigrate": "it waits for a guest and has none; --receive takes one into it"
    case "postmigrate": "its guest has been saved or moved; if it is nowhere else, QEMU's command cont lets it run on"
    default: "its guest is in no state to be moved"
    }
  }

  private func move(to address: MigrationAddress?, _ memory: GuestMemory, _ record: inout MoveRecord) throws {
    guard let address else { return try forecast(memory, &record) }
    if command.forecasts { return try move(over: address, memory, &record) }
    try machine.ignoringSharedMemory { try move(over: address, memory, &record) }
  }

  private func move(over address: MigrationAddress, _ memory: GuestMemory, _ record: inout MoveRecord) throws {
    narrator.progress("connecting to \(address)")
    let (narrator, resident) = (narrator, record.resident)
    let link = WatchedLink(try MigrationLink.connect(to: address, within: command.timeout, unless: cancellation)) {
      narrator.progress("\(Amount.bytes($0)) sent; \(Amount.bytes(resident)) were there at first")
    }
    let source = Source(link, producer: "virtiokit \(Virtiokit.version)", timeLimit: command.timeout)
    let orders = QemuState.Orders(runs: record.wasRunning, balloonBytes: record.balloon?.bytesToGiveBack ?? 0)
    var guest = QemuGuest(machine, memory: memory, orders: orders)
    do {
      record.report = try command.pausesFirst ? moveStopped(source, &guest, record) : moveLive(source, &guest, &record)
    } catch {
      narrator.clear()
      if case .outcomeUnknown = error { throw MoveFailure.unknown(error) }
      if command.forecasts, error == .cancelled { return try judge(record.forecast) }
      if let failure = guest.failureToResume {
        throw MoveFailure.notMoved(error, remark: "and it does not run on here: \(failure)")
      }
      throw error
    }
    narrator.clear()
  }

  /// What has to be the same on both sides.
  private func notes(_ record: MoveRecord) -> [GuestDescription.Note] {
    [
      .init(name: MoveNote.kind, text: "qemu"), .init(name: MoveNote.machine, text: record.machine),
      .init(name: MoveNote.memory, text: record.layout),
    ] + (machine.devices.map { [.init(name: MoveNote.devices, text: $0.text)] } ?? [])
  }

  private func moveStopped(
    _ source: consuming Source<WatchedLink>, _ guest: inout QemuGuest, _ record: MoveRecord
  ) throws(MigrationError) -> MigrationReport {
    do {
      if command.pins { try pin(guest.memory) }
      let state = try guest.pause()
      return try source.move(
        guest.memory, state: state, notes: notes(record), pausedAt: guest.pausedAt, verifies: command.verifies,
        zeroCopy: command.zeroCopy)
    } catch {
      if error.sourceMayRun { guest.resume() }
      throw error
    }
  }

  private func pin(_ memory: GuestMemory) throws(MigrationError) {
    do throws(GuestMemoryError) { try memory.pin() } catch { throw .memory(error) }
  }

  private func moveLive(
    _ source: consuming Source<WatchedLink>, _ guest: inout QemuGuest, _ record: inout MoveRecord
  ) throws(MigrationError) -> MigrationReport {
    var forecast: MigrationForecast?
    // Called off as soon as it is known, or as soon as the guest turns out to be too small to know.
    defer { record.forecast = forecast }
    let permit = command.asks ? try Self.permitByLine() : nil
    return try source.move(
      &guest, policy: command.policy, notes: notes(record), unless: cancellation, awaiting: permit
    ) { (event) in
      switch event {
      case .forecast(let told): forecast = told
      default: break
      }
      if !command.forecasts || forecast != nil { narrator.say(event.line) }
      if command.forecasts { cancellation.cancel() }
    }
  }

  /// A permit that is given when the operator says so.
  private static func permitByLine() throws(MigrationError) -> SwitchoverPermit {
    let permit = SwitchoverPermit()
    do throws(LinuxError) {
      _ = try Thread(name: "operator") {
        // The end of standard input is nobody's word: it may have been closed all along.
        if readLine() != nil { permit.allow() }
      }
    } catch {
      throw .system(error)
    }
    return permit
  }

  // MARK: - Before it

  /// What a move over a connection would be like that is as fast as was said.
  private func forecast(_ memory: GuestMemory, _ record: inout MoveRecord) throws {
    let pages = SentPages(memory)
    _ = try pages.takeWrites()
    let start = MonotonicClock.now
    func written(within seconds: Double) throws -> Double {
      try cancellation.wait(.seconds(seconds))
      return try Double(pages.takeWrites().reduce(0) { $0 + $1.byteCount })
    }
    let first = try written(within: 0.1)
    // To look takes its time too.
    let seconds = Double(MonotonicClock.now - start) / 1e9
    let writes = WriteRate(seconds: seconds, first: first, second: try written(within: 4 * seconds))
    let forecast = MigrationForecast(
      of: record.resident, writes: writes, linkBytesPerSecond: Double(command.bandwidth?.bytes ?? 0),
      policy: command.policy, pauseSeconds: pages.lookSeconds + QemuGuest.stateSeconds)
    record.forecast = forecast
    narrator.say(MigrationEvent.forecast(forecast).line)
    try judge(forecast)
  }

  private func judge(_ forecast: MigrationForecast?) throws {
    guard let forecast else { throw MoveFailure.tooSmallToTell }
    if !forecast.fits { throw MoveFailure.doesNotFit }
  }

  // MARK: - After it

  private func asFailure(_ error: any Error, _ record: MoveRecord) -> MoveFailure {
    if let failure = error as? MoveFailure, failure.exitStatus != 1 { return failure }
    var remark = record.wasRunning ? "the guest runs on here" : "the guest is still here"
    if !record.wasRunning, isSaved {
      remark += ", and QEMU has to be told cont, which runs it, before it can be moved again"
    }
    if let balloon = record.balloon { remark += giveBack(balloon) }
    return error as? MoveFailure ?? .notMoved(error, remark: remark)
  }

  /// Whether QEMU has saved the guest, and so does not save it once more.
  private var isSaved: Bool {
    do throws(QmpError) {
      return try machine.status.name == "postmigrate"
    } catch {
      // Then there is nothing that it could be told.
      return false
    }
  }

  private func endSource() {
    do throws(QmpError) {
      try machine.quit()
    } catch {
      // The guest has been moved, whatever becomes of what it has left.
      Terminal.complain("the QEMU that the guest has left does not end: \(error)")
    }
  }

  private func publish(_ record: MoveRecord, as page: ReportFile?) {
    if command.asJSON { Terminal.write("\(record.json)\n") }
    do throws(LinuxError) {
      try page?.write(MovePage(record: record))
    } catch {
      // The guest is where it is, whatever can be written of it.
      Terminal.complain("the report is not written: \(error)")
    }
  }
}

/// Where the page goes that `--report` asks for.
private final class ReportFile {
  private let file: FileDescriptor

  init(_ path: String) throws(LinuxError) {
    file = try FileDescriptor.open(path, for: .writing, creating: .emptied)
  }

  func write(_ page: MovePage) throws(LinuxError) { try file.writeAll(Array(page.html.utf8)) }
}

/// What both sides of a move have to agree on, by name.
enum MoveNote {
  static let kind = "kind"
  static let machine = "machine"
  static let memory = "memory"
  static let devices = "devices"
}

extension MoveRecord {
  fileprivate var opening: String {
    """
    A guest of QEMU \(qemu) (\(machine)), \(wasRunning ? "running" : "paused"), with \(Amount.bytes(memory)) of \
    memory; the host has \(Amount.bytes(resident)) behind it.
    """
  }
}
