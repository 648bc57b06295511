import Foundation
import LinuxIO
import Options

/// The demo with the simulated guest: two processes, and the ways to move it from one to the other.
struct SimulatedDemo {
  /// A way to move a guest.
  private struct Way {
    let name: String
    var memory = MemoryMove.sent
    var usesBalloon = false
  }

  private static let ways = [
    Way(name: "as it is"),
    Way(name: "free page hints", memory: .sentUnlessFree),
    Way(name: "balloon", usesBalloon: true),
    Way(name: "both", memory: .sentUnlessFree, usesBalloon: true),
    Way(name: "handed over", memory: .handedOver),
  ]

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
      guest: options.guest.rawValue, memoryBytes: options.memoryByteCount,
      targetBytes: options.target == .auto ? nil : options.targetByteCount)
    report.leastAvailableBytes = options.leastAvailableByteCount
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

    let booted = try boot(on: first)
    for (index, way) in Self.ways.enumerated() {
      let path = directory.path(of: "move-\(index)")
      if index % 2 == 0 {
        try play(way, booted: index == 0 ? booted : nil, from: first, to: second, at: path)
      } else {
        try play(way, from: second, to: first, at: path)
      }
    }
    summarize()
    // Where its own statistics decide, a guest may keep more than the target.
    report.verified =
      options.leastAvailableByteCount != nil || report.moves.allSatisfy { $0.shrink?.isComplete ?? true }
    return report
  }

  private mutating func boot(on host: borrowing HostProcess) throws -> HostView {
    terminal.say("A guest with \(Size(options.memoryByteCount)) in process A, workload \(workload.rawValue)")
    let view = try host.ask(
      .boot(memoryByteCount: options.memoryByteCount, seed: seed, workload: workload, pins: options.pins))
    try check(view)
    show(view)
    report.residentBeforeBytes = view.resident
    report.pinnedBytes = view.pinned
    return view
  }

  // MARK: - One move

  /// - Parameter booted: the guest if it has just booted, and so has used its memory.
  private mutating func play(
    _ way: Way, booted: HostView? = nil, from source: borrowing HostProcess, to destination: borrowing HostProcess,
    at path: String
  ) throws {
    let number = report.moves.count + 1
    terminal.say("\n\(number). Move it, \(way.name), from \(source.name) to \(destination.name)")
    // Each move begins with a guest that uses as much.
    let full = if let booted { booted } else { try source.ask(.fill) }
    try check(full)
    let small = way.usesBalloon ? try shrink(on: source) : nil
    try destination.begin(.receive(socketPath: path, pins: options.pins))
    try destination.waitUntilListening()
    let left = try source.ask(.send(socketPath: path, way.memory))
    let arrived = try destination.finish()
    guard var move = left.move else { throw DemoError.notVerified("the move \(way.name)") }
    try check(arrived)
    (move.name, move.pagesChecked, move.residentBytes) = (way.name, arrived.checkedPages, full.resident)
    say(move)
    if let small {
      (move.shrink, move.growSeconds) = (small, try grow(on: destination))
    }
    move.sumUp()
    report.moves.append(move)
  }

  private func say(_ move: MoveView) {
    let manner =
      if move.handedOverBytes > 0 {
        "that tell where its \(Size(move.handedOverBytes)) are"
      } else {
        move.steps == 0
          ? "while it stood still" : "in \(move.passes) pass\(move.passes == 1 ? "" : "es") while it worked"
      }
    let skipped = move.skippedBytes > 0 ? ", \(Size(move.skippedBytes)) that it had no use for left out" : ""
    terminal.say(
      """
         \(Size(move.bytes)) in \(seconds(move.seconds)) \(manner)\(skipped), stopped for \
      \(seconds(move.downtimeSeconds)); \(move.pagesChecked) pages hold what the guest wrote
      """)
  }

  private mutating func shrink(on host: borrowing HostProcess) throws -> ShrinkView {
    let view = try host.ask(
      .shrink(targetByteCount: options.targetByteCount, leastAvailableByteCount: options.leastAvailableByteCount))
    try check(view)
    guard let shrink = view.shrink else { throw DemoError.hostFailed("\(host.name) did not shrink the guest") }
    report.actualBytes = max(report.actualBytes, view.balloon.actual)
    report.residentAfterBytes = max(report.residentAfterBytes, view.resident)
    report.reclaimedBytes = view.balloon.reclaimed
    if let warning = view.balloon.warning { report.warnings.append(warning) }
    terminal.say(
      """
         the balloon leaves it \(Size(shrink.guestBytes)) after \(seconds(shrink.seconds)): \(shrink.reason); \
      \(Size(view.resident)) of host memory are behind it
      """)
    guard view.resident <= shrink.guestBytes else {
      throw DemoError.notVerified("\(Size(view.resident)) are still behind a guest of \(Size(shrink.guestBytes))")
    }
    return shrink
  }

  private func grow(on host: borrowing HostProcess) throws -> Double {
    let view = try host.ask(.grow)
    try check(view)
    guard let seconds = view.growSeconds else { throw DemoError.hostFailed("\(host.name) did not grow the guest") }
    terminal.say("   it has \(Size(view.guest.total)) again after \(self.seconds(seconds)), and all that it wrote")
    return seconds
  }

  private func check(_ view: HostView) throws {
    if let fault = view.fault { throw DemoError.notVerified(fault) }
  }

  private func show(_ view: HostView) {
    terminal.say(
      """
         the guest: \(Size(view.guest.free)) free, \(Size(view.guest.cache)) page cache, \(Size(view.guest.disk)) disk
         the host:  \(Size(view.resident)) behind the guest, some of it free pages that were used before
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
  private func seconds(_ value: Double) -> String { Seconds(value).description }

  private func summarize() {
    var table = Table(
      "", "before", "guest keeps", "sent", "left out", "shrink", "move", "in all", "stopped", "guest's work")
    for move in report.moves {
      table.add(
        move.name, "\(Size(move.residentBytes))", "\(Size(move.shrink?.guestBytes ?? options.memoryByteCount))",
        "\(Size(move.bytes))",
        "\(Size(move.skippedBytes))", move.shrink.map { seconds($0.seconds) } ?? "", seconds(move.seconds),
        seconds(move.totalSeconds), seconds(move.downtimeSeconds),
        move.workShare.map { String(format: "%.0f %%", $0 * 100) } ?? "none")
    }
    terminal.say("\n\(table.text)\n")
    for warning in report.warnings { terminal.say("Warning: \(warning)") }
    for case let shrink? in report.moves.map(\.shrink) where !shrink.isComplete && options.target != .auto {
      terminal.say("In part only: the guest kept \(Size(shrink.guestBytes)), for \(shrink.reason).")
    }
    terminal.say(
      """
      Before: host memory behind the guest at the start, which differs by what programs left in free pages.
      Guest's work: what it got done until it had arrived, of what it does alone in that time.
      """)
    terminal.say("Verified: everything that the guest has written, after each move and after growing back.")
  }
}
