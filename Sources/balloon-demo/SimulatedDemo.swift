import Foundation
import LinuxIO
import Options

/// The demo with the simulated guest: two processes, three moves, one balloon.
struct SimulatedDemo {
  let options: DemoOptions
  let terminal: Terminal
  private let workload: DemoOptions.WorkloadKind
  private let seed: UInt64
  private var report: DemoReport

  init(options: DemoOptions, terminal: Terminal) {
    self.options = options
    self.terminal = terminal
    workload = options.workload ?? .pageCache
    seed = options.seed ?? 1
    report = DemoReport(
      guest: options.guest.rawValue, memoryBytes: options.memoryByteCount, targetBytes: options.target.bytes)
    report.seed = seed
    report.workload = workload.rawValue
  }

  /// Plays the demo; throws at the first thing that is not as it should be.
  mutating func run() throws -> DemoReport {
    try checkHostMemory()
    let directory = try TemporaryDirectory()
    defer { directory.remove() }
    let terminal = terminal
    let first = try HostProcess.start(name: "process A") { terminal.progress($0) }
    let second = try HostProcess.start(name: "process B") { terminal.progress($0) }

    let full = try boot(on: first)
    try move("as it is", from: first, to: second, in: directory)
    let small = try shrink(on: second, from: full)
    let returned = try move("inflated", from: second, to: first, in: directory)
    let grown = try grow(on: first, from: returned)
    let last = try move("deflated", from: first, to: second, in: directory)

    summarize([("started", full), ("inflated", small), ("deflated, working", grown), ("moved back", last)])
    report.verified = true
    return report
  }

  private mutating func boot(on host: borrowing HostProcess) throws -> HostView {
    terminal.say("1. A guest with \(Size(options.memoryByteCount)) in process A, workload \(workload.rawValue)")
    let view = try host.ask(
      .boot(memoryByteCount: options.memoryByteCount, seed: seed, workload: workload))
    try check(view)
    show(view)
    report.residentBeforeBytes = view.resident
    return view
  }

  @discardableResult
  private mutating func move(
    _ name: String, from source: borrowing HostProcess, to destination: borrowing HostProcess,
    in directory: TemporaryDirectory
  ) throws -> HostView {
    let number = report.moves.count + 1
    terminal.say("\n\(number * 2). Move it, \(name), from \(source.name) to \(destination.name)")
    let path = directory.path(of: "move-\(number)")
    try destination.begin(.receive(socketPath: path))
    try destination.waitUntilListening()
    let left = try source.ask(.send(socketPath: path))
    let view = try destination.finish()
    guard var move = left.move else { throw DemoError.notVerified("the move \(name)") }
    try check(view)
    (move.name, move.pagesChecked) = (name, view.checkedPages)
    report.moves.append(move)
    let manner = move.steps == 0 ? "while it stood still" : "in \(move.passes) passes while it worked"
    terminal.say(
      """
         \(Size(move.bytes)) in \(seconds(move.seconds)) \(manner), stopped for \(seconds(move.downtimeSeconds)); \
      \(move.pagesChecked) pages hold what the guest wrote
      """)
    return view
  }

  private mutating func shrink(on host: borrowing HostProcess, from full: HostView) throws -> HostView {
    terminal.say("\n3. Inflate the balloon until the guest keeps \(Size(options.target.bytes))")
    let view = try host.ask(.resize(targetByteCount: options.target.bytes))
    try check(view)
    show(view)
    report.actualBytes = view.balloon.actual
    report.residentAfterBytes = view.resident
    report.reclaimedBytes = view.balloon.reclaimed
    if let warning = view.balloon.warning { report.warnings.append(warning) }
    guard view.balloon.actual == options.target.bytes else {
      throw DemoError.targetNotReached(actual: view.balloon.actual, target: options.target.bytes)
    }
    guard view.resident <= options.target.bytes, view.resident <= full.resident else {
      throw DemoError.notVerified("\(Size(view.resident)) are still behind a guest of \(Size(options.target.bytes))")
    }
    return view
  }

  private func grow(on host: borrowing HostProcess, from small: HostView) throws -> HostView {
    terminal.say("\n5. Deflate the balloon, and let the guest work on")
    try check(host.ask(.resize(targetByteCount: options.memoryByteCount)))
    let view = try host.ask(.work)
    try check(view)
    show(view)
    return view
  }

  private func check(_ view: HostView) throws {
    if let fault = view.fault { throw DemoError.notVerified(fault) }
  }

  private func show(_ view: HostView) {
    terminal.say(
      """
         the guest: \(Size(view.guest.total)) in all, \(Size(view.guest.free)) free, \(Size(view.guest.cache)) page \
      cache, \(Size(view.guest.disk)) disk, \(Size(view.guest.balloon)) in the balloon
         the host:  \(Size(view.resident)) behind the guest; \(view.checkedPages) pages hold what the guest wrote
      """)
  }

  /// The source and the destination of a move hold the guest at the same time.
  private func checkHostMemory() throws {
    let needed = 2 * options.memoryByteCount
    if let available = HostMachine.availableMemory, available < needed {
      throw DemoError.notEnoughMemory(needed: needed, available: available)
    }
  }
}

extension SimulatedDemo {
  private func seconds(_ value: Double) -> String {
    value < 1 ? String(format: "%.0f ms", value * 1000) : String(format: "%.2f s", value)
  }

  private func summarize(_ moments: [(name: String, view: HostView)]) {
    var table = Table("", "guest keeps", "host memory", "move", "time")
    for (index, moment) in moments.enumerated() {
      let move = index < report.moves.count ? report.moves[index] : nil
      table.add(
        moment.name, Size(moment.view.balloon.actual).description, Size(moment.view.resident).description,
        move.map { Size($0.bytes).description } ?? "", move.map { seconds($0.seconds) } ?? "")
    }
    if let first = report.moves.first, let second = report.moves.dropFirst().first {
      table.add(
        "saved by the balloon", "", Size(report.residentBeforeBytes - report.residentAfterBytes).description,
        Size(first.bytes - min(first.bytes, second.bytes)).description, seconds(max(0, first.seconds - second.seconds)))
    }
    terminal.say("\n\(table.text)\n")
    for warning in report.warnings { terminal.say("Warning: \(warning)") }
    terminal.say("Verified: everything that the guest has written, after each move.")
  }
}
