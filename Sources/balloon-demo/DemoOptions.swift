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
  static let summary = "Shrinks a guest with a memory balloon, and moves it between processes before and after."
  static let discussion = """
    The simulated guest needs nothing installed. It runs in a process of its own, drives our balloon device over real \
    rings in its memory, and moves from process to process while it works; what it wrote is checked after each move.

    With --guest linux a real kernel does the same to the same device: Debian's user-mode-linux, over vhost-user.

    Exit status: 0 when everything verified, 1 when something did not or could not be done, 2 for a wrong command line.
    """
  static let examples = [
    Example("--target 512M", "Shrink a guest of 2 GiB to 512 MiB, move it there and back."),
    Example("--target 512M --guest linux", "The same balloon with a real Linux kernel."),
    Example("--target 256M --memory 1G --seed 7 --json", "One object for scripts."),
    Example("--target 512M --report moves.html", "Plots of what happened, in one page."),
  ]

  var target = ByteCount.mebibytes(512)
  var memory: ByteCount?
  var workload: WorkloadKind?
  var guest = GuestKind.simulated
  var seed: UInt64?
  var json = false
  var reportPath: String?

  mutating func declare(in options: inout OptionTable) {
    options.value("target", &target, "the memory that the guest keeps, such as 512M")
    options.value("memory", &memory, "the guest's memory: 2G, or 1G for a linux guest")
    options.value("workload", &workload, "what the simulated guest does: page-cache unless told otherwise")
    options.value("guest", &guest, "who drives the balloon")
    options.value("seed", &seed, "where the simulated guest's random numbers start: 1 unless told otherwise")
    options.flag("json", &json, "print one JSON object instead of text")
    options.value("report", &reportPath, "write a page with plots of the simulated guest's moves to this file")
  }

  /// The guest's memory in bytes.
  var memoryByteCount: UInt64 {
    memory?.bytes ?? (guest == .simulated ? 2 << 30 : 1 << 30)
  }

  func validate() throws(OptionError) {
    if guest == .linux, let workload {
      throw .rejected(option: "--workload", value: workload.rawValue, reason: "it is for the simulated guest")
    }
    if guest == .linux, let seed {
      throw .rejected(option: "--seed", value: "\(seed)", reason: "it is for the simulated guest")
    }
    if guest == .linux, let reportPath {
      throw .rejected(option: "--report", value: reportPath, reason: "it is for the simulated guest")
    }
    let page: UInt64 = 4096
    guard memoryByteCount % page == 0, (128 << 20...16 << 30).contains(memoryByteCount) else {
      throw .rejected(
        option: "--memory", value: ByteCount(bytes: memoryByteCount).optionText,
        reason: "a guest has 128 MiB to 16 GiB, in pages of 4 KiB")
    }
    guard target.bytes % page == 0, target.bytes >= 64 << 20 else {
      throw .rejected(
        option: "--target", value: target.optionText, reason: "a guest needs at least 64 MiB, in pages of 4 KiB")
    }
    guard target.bytes <= memoryByteCount else {
      throw .rejected(
        option: "--target", value: target.optionText,
        reason: "the guest has \(ByteCount(bytes: memoryByteCount).optionText); a balloon only takes memory away")
    }
  }
}
