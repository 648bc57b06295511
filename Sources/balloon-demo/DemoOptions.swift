import Options

/// What `balloon-demo` was asked for.
struct DemoOptions: Command {
  enum GuestKind: String, CaseIterable, OptionValue {
    case simulated, linux
  }

  enum WorkloadKind: String, CaseIterable, OptionValue, Codable {
    case idle
    case pageCache = "page-cache"
    case dirtying
    case pressure
  }

  static let name = "balloon-demo"
  static let summary =
    "Moves a guest between processes: as it is, with free page hints, shrunk by a balloon, with both, and with its memory."
  static let discussion = """
    The simulated guest needs nothing installed. It runs in a process of its own, drives our balloon device over real \
    rings in its memory, and moves from process to process while it works; what it wrote is checked after each move. Five \
    moves are compared; for those with the balloon the guest is shrunk before and grows back after. In the last the \
    guest's memory stays where it is, and the other process is told where.

    With --target auto the guest is shrunk as far as its own statistics allow: it keeps --keep-available of memory that \
    its programs could have, a sixteenth of all unless told otherwise.

    With --guest linux a real kernel does the same to the same device: Debian's user-mode-linux, over vhost-user.

    Exit status: 0 when everything verified, 1 when something did not or could not be done, 2 for a wrong command line.
    """
  static let examples = [
    Example("--target 512M", "Move a guest of 2 GiB in five ways, in two of them shrunk to 512 MiB."),
    Example("--target auto --keep-available 256M", "Take what the guest can spare and still has 256 MiB for programs."),
    Example("--target 512M --guest linux", "The same balloon with a real Linux kernel."),
    Example("--target 256M --memory 1G --seed 7 --json", "One object for scripts."),
    Example("--target 512M --report moves.html", "Plots of what happened, in one page."),
  ]

  /// The memory that the guest is to keep; `auto` for as little as its own statistics allow.
  var target = SizeOrAuto.size(.mebibytes(512))
  var keepAvailable: ByteCount?
  var memory: ByteCount?
  var workload: WorkloadKind?
  var guest = GuestKind.simulated
  var seed: UInt64?
  var json = false
  var reportPath: String?
  var pins = false

  mutating func declare(in options: inout OptionTable) {
    options.value("target", &target, "the memory that the guest keeps, such as 512M")
    options.value(
      "keep-available", &keepAvailable, "shrink no further than leaves the simulated guest this much for programs")
    options.value("memory", &memory, "the guest's memory: 2G, or 1G for a linux guest")
    options.value("workload", &workload, "what the simulated guest does: page-cache unless told otherwise")
    options.value("guest", &guest, "who drives the balloon")
    options.value("seed", &seed, "where the simulated guest's random numbers start: 1 unless told otherwise")
    options.flag("pin", &pins, "pin the simulated guest's memory in each process, which no balloon minds")
    options.flag("json", &json, "print one JSON object instead of text")
    options.value("report", &reportPath, "write a page with plots of the simulated guest's moves to this file")
  }

  /// The guest's memory in bytes.
  var memoryByteCount: UInt64 {
    memory?.bytes ?? (guest == .simulated ? 2 << 30 : 1 << 30)
  }

  /// The least memory that the guest may be left with, in bytes.
  static let leastByteCount: UInt64 = 64 << 20

  /// The memory that the guest is to keep, in bytes; the least it may have when its statistics decide.
  var targetByteCount: UInt64 {
    switch target {
    case .size(let size): size.bytes
    case .auto: Self.leastByteCount
    }
  }

  /// The memory that has to stay available in the guest, in bytes; nil if that is not looked at.
  var leastAvailableByteCount: UInt64? {
    keepAvailable?.bytes ?? (target == .auto ? memoryByteCount / 16 : nil)
  }

  func validate() throws(OptionError) {
    if guest == .linux, target == .auto || keepAvailable != nil {
      throw .rejected(
        option: keepAvailable == nil ? "--target" : "--keep-available", value: keepAvailable?.optionText ?? "auto",
        reason: "it is for the simulated guest")
    }
    if guest == .linux, let workload {
      throw .rejected(option: "--workload", value: workload.rawValue, reason: "it is for the simulated guest")
    }
    if guest == .linux, let seed {
      throw .rejected(option: "--seed", value: "\(seed)", reason: "it is for the simulated guest")
    }
    if guest == .linux, pins { throw .rejected(option: "--pin", value: "", reason: "it is for the simulated guest") }
    if guest == .linux, let reportPath {
      throw .rejected(option: "--report", value: reportPath, reason: "it is for the simulated guest")
    }
    let page: UInt64 = 4096
    guard memoryByteCount % page == 0, (128 << 20...16 << 30).contains(memoryByteCount) else {
      throw .rejected(
        option: "--memory", value: ByteCount(bytes: memoryByteCount).optionText,
        reason: "a guest has 128 MiB to 16 GiB, in pages of 4 KiB")
    }
    guard targetByteCount % page == 0, targetByteCount >= Self.leastByteCount else {
      throw .rejected(
        option: "--target", value: target.optionText, reason: "a guest needs at least 64 MiB, in pages of 4 KiB")
    }
    guard targetByteCount <= memoryByteCount else {
      throw .rejected(
        option: "--target", value: target.optionText,
        reason: "the guest has \(ByteCount(bytes: memoryByteCount).optionText); a balloon only takes memory away")
    }
    if let keepAvailable, keepAvailable.bytes > memoryByteCount {
      throw .rejected(
        option: "--keep-available", value: keepAvailable.optionText,
        reason: "the guest has \(ByteCount(bytes: memoryByteCount).optionText)")
    }
  }
}
