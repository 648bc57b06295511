import LinuxIO

/// A QEMU, as far as moving its guest takes: what it is, whether it runs, and its devices' state.
///
/// QEMU carries the guest's memory itself unless it is told that both sides share it (`x-ignore-shared`). Then its
/// migration stream has processors and devices in it and nothing else, and memory is ours to move.
final class QemuMachine: Sendable {
  /// The most bytes of devices' state that are taken: as a rule it is less than one MiB.
  static let mostState = 48 << 20
  /// How long QEMU may take to save its devices, or to load them.
  private static let stateLimit = Duration.seconds(30)
  /// How long a guest may take to stand still or to run: a disk of its may have to finish first.
  private static let runLimit = Duration.seconds(120)
  /// What QEMU calls the connection over which its devices' state goes.
  private static let channel = "virtiokit-state"

  /// What QEMU says of itself (`query-status`): "running", "paused", "inmigrate", …
  struct Status: Equatable {
    let name: String
    let isRunning: Bool
    var waitsForGuest: Bool { name == "inmigrate" }
  }

  let qmp: QmpConnection

  init(_ qmp: QmpConnection) {
    self.qmp = qmp
  }

  // MARK: - What it is

  var status: Status {
    get throws(QmpError) {
      let answer = try qmp.execute("query-status")
      guard let name = answer["status"]?.text, let isRunning = answer["running"]?.bool else {
        throw .unexpected(command: "query-status", answer: "\(answer)")
      }
      return Status(name: name, isRunning: isRunning)
    }
  }

  /// Such as "7.2.22".
  var version: String {
    get throws(QmpError) {
      let numbers = try qmp.execute("query-version")["qemu"]
      return ["major", "minor", "micro"].map { "\(numbers?[$0]?.number ?? 0)" }.joined(separator: ".")
    }
  }

  /// Such as "pc-q35-7.2-machine": the same on both sides, or QEMU cannot load the state of its devices.
  var machineType: String {
    get throws(QmpError) { try text("type", of: "/machine") }
  }

  func text(_ property: String, of path: String) throws(QmpError) -> String {
    let value = try get(property, of: path)
    guard let text = value.text else { throw .unexpected(command: "qom-get", answer: "\(value)") }
    return text
  }

  func get(_ property: String, of path: String) throws(QmpError) -> JSON {
    try qmp.execute("qom-get", [("path", .text(path)), ("property", .text(property))])
  }

  // MARK: - Whether it runs

  func stop() throws(QmpError) { try qmp.execute("stop", within: Self.runLimit) }
  func resume() throws(QmpError) { try qmp.execute("cont", within: Self.runLimit) }
  func quit() throws(QmpError) { try qmp.execute("quit") }

  /// Has its cards tell the network where the guest is: at once and four times more within a second, as QEMU does by
  /// itself where it has loaded a guest.
  func announce() throws(QmpError) {
    try qmp.execute(
      "announce-self",
      [("initial", .number(50)), ("max", .number(550)), ("rounds", .number(5)), ("step", .number(100))])
  }

  // MARK: - The state of its devices

  /// Has memory left out of what is saved or loaded meanwhile, and of nothing after that: a migration of QEMU's own
  /// would go without it.
  func ignoringSharedMemory<Result>(_ body: () throws -> Result) throws -> Result {
    if try ignoresSharedMemory {
      Terminal.complain(
        "QEMU was told before to leave shared memory out of its own migrations (x-ignore-shared); it goes on doing so")
      return try body()
    }
    try setIgnoresSharedMemory(true)
    defer {
      do throws(QmpError) {
        try setIgnoresSharedMemory(false)
      } catch {
        Terminal.complain("QEMU goes on leaving shared memory out of its own migrations (x-ignore-shared): \(error)")
      }
    }
    return try body()
  }

  private static let ignoringShared = "x-ignore-shared"

  private var ignoresSharedMemory: Bool {
    get throws(QmpError) {
      let answer = try qmp.execute("query-migrate-capabilities")
      let capability = answer.array?.first { $0["capability"]?.text == Self.ignoringShared }
      guard let isOn = capability?["state"]?.bool else {
        throw .unexpected(command: "query-migrate-capabilities", answer: "\(answer)")
      }
      return isOn
    }
  }

  private func setIgnoresSharedMemory(_ isOn: Bool) throws(QmpError) {
    let capability = JSON.object([("capability", .text(Self.ignoringShared)), ("state", .bool(isOn))])
    try qmp.execute("migrate-set-capabilities", [("capabilities", .array([capability]))])
  }

  /// Saves processors and devices of a guest that is stopped. It may be resumed afterwards.
  func saveState() throws(QmpError) -> [UInt8] {
    let pair = try socketPair()
    let mine = pair.first
    try hand(pair.second)
    try qmp.execute("migrate", [("uri", .text("fd:\(Self.channel)"))])
    var state: [UInt8] = []
    let deadline = MonotonicClock.moment(after: Self.stateLimit)
    while true {
      let part = try receive(from: mine, until: deadline)
      if part.isEmpty { break }
      state += part
      guard state.count <= Self.mostState else { throw .tooMuchState(most: Self.mostState) }
    }
    try awaitStream("completed")
    return state
  }

  /// Ends the saving of a state that nobody wants any more, so that the guest can be resumed.
  func abandonState() throws(QmpError) {
    let status = try streamStatus
    guard status == "active" || status == "setup" || status == "device" else { return }
    try qmp.execute("migrate_cancel")
    _ = try poll("migrate_cancel", within: Self.stateLimit) { () throws(QmpError) in
      let status = try streamStatus ?? "none"
      return ["active", "setup", "cancelling", "device"].contains(status) ? nil : true
    }
  }

  /// Loads processors and devices into a QEMU that was started with `-incoming defer`, once its memory is what it was
  /// when they were saved. The guest is then paused.
  func loadState(_ state: [UInt8]) throws(QmpError) {
    let pair = try socketPair()
    let mine = pair.first
    try hand(pair.second)
    try qmp.execute("migrate-incoming", [("uri", .text("fd:\(Self.channel)"))])
    do throws(LinuxError) {
      try mine.send(state, within: Self.stateLimit)
    } catch {
      throw error.isPeerGone ? .streamFailed(reason: "QEMU does not take it; its own messages say why") : .system(error)
    }
    try awaitStream("completed")
    _ = try poll("query-status", within: Self.stateLimit) { () throws(QmpError) in
      try status.waitsForGuest ? nil : true
    }
  }

  private func socketPair() throws(QmpError) -> UnixSocket.Pair {
    do throws(LinuxError) { return try UnixSocket.pair() } catch { throw .system(error) }
  }

  /// Gives QEMU its end of a connection; ours of that end is closed, so that the stream can end.
  private func hand(_ socket: consuming UnixSocket) throws(QmpError) {
    try qmp.execute("getfd", [("fdname", .text(Self.channel))], passing: socket.descriptor.rawValue)
  }

  private func receive(from socket: borrowing UnixSocket, until deadline: UInt64) throws(QmpError) -> [UInt8] {
    do throws(LinuxError) {
      if try socket.waitUntilReadable(within: MonotonicClock.timeLeft(until: deadline)) {
        return try socket.descriptor.readBytes(upTo: 1 << 18)
      }
    } catch {
      throw .system(error)
    }
    throw .stalled(command: "migrate", limit: Self.stateLimit)
  }

  private var streamStatus: String? {
    get throws(QmpError) { try qmp.execute("query-migrate")["status"]?.text }
  }

  private func awaitStream(_ wanted: String) throws(QmpError) {
    _ = try poll("query-migrate", within: Self.stateLimit) { () throws(QmpError) in
      let answer = try qmp.execute("query-migrate")
      let status = answer["status"]?.text
      if status == "failed" || status == "cancelled" {
        throw QmpError.streamFailed(reason: answer["error-desc"]?.text ?? "its own messages say why")
      }
      return status == wanted ? true : nil
    }
  }
}

/// Asks again and again until there is an answer.
/// - Parameters:
///   - interval: how long to wait between questions.
///   - cancellation: what ends the waiting, as `ECANCELED`.
func poll<Answer>(
  _ command: String, within limit: Duration, every interval: Duration = .milliseconds(1),
  unless cancellation: Cancellation? = nil, _ question: () throws(QmpError) -> Answer?
) throws(QmpError) -> Answer {
  let deadline = MonotonicClock.moment(after: limit)
  while true {
    if let answer = try question() { return answer }
    guard MonotonicClock.now < deadline else { throw .stalled(command: command, limit: limit) }
    do throws(LinuxError) {
      // Without anybody to call it off it is a wait like any other.
      let cancellation = if let cancellation { cancellation } else { try Cancellation() }
      try cancellation.wait(interval)
    } catch {
      throw .system(error)
    }
  }
}
