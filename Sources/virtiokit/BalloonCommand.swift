import Balloon
import LinuxIO
import Options
import VhostUser

/// `virtiokit balloon`
struct BalloonCommand: Command {
  static let name = "balloon"
  static let summary = "Serves a memory balloon to a vhost-user front-end."
  static let discussion = """
    While it runs it takes commands, one a line, on the control socket and on standard input; "help" lists them. It \
    serves one front-end after another, and ends on SIGTERM or "quit".
    """
  static let examples = [
    Example("--socket-path /run/balloon.sock --control /run/balloon.ctl", "Serve and listen to commands."),
    Example("--socket-path /run/balloon.sock --target 512M", "Have every guest keep 512 MiB."),
  ]

  var socketPath: String?
  var descriptor: Int?
  var control: String?
  var target: ByteCount?
  var statisticsInterval: Duration?
  var freePageReporting = false
  var freePageHinting = false
  var pagePoison = false
  var deflateOnOutOfMemory = false
  var fixedQueueNumbers = false
  var inbandNotifications = false
  var record: String?
  var printCapabilities = false

  mutating func declare(in options: inout OptionTable) {
    options.value("socket-path", &socketPath, "where front-ends connect", placeholder: "PATH")
    options.value("fd", &descriptor, "the inherited socket of a front-end that is connected already")
    options.value("control", &control, "where commands are taken", placeholder: "PATH")
    options.value("target", &target, "how much memory the guest keeps")
    options.value("statistics-interval", &statisticsInterval, "how often the guest is asked for statistics")
    options.flag("free-page-reporting", &freePageReporting, "take free pages as the guest reports them")
    options.flag("free-page-hinting", &freePageHinting, "offer hints of free pages")
    options.flag("page-poison", &pagePoison, "let the guest say what it fills free pages with")
    options.flag("deflate-on-oom", &deflateOnOutOfMemory, "let the guest take pages back when it runs out of memory")
    options.flag("fixed-queue-numbers", &fixedQueueNumbers, "number queues as the specification does, not as Linux")
    options.flag("inband-notifications", &inbandNotifications, "let kicks travel as messages, which is slower")
    options.value("record", &record, "write all that guests do to this file, for replay", placeholder: "PATH")
    options.flag("print-capabilities", &printCapabilities, "print what this back-end can do, as JSON, and end")
  }

  func validate() throws(OptionError) {
    guard !printCapabilities else { return }
    try SocketOptions(socketPaths: socketPath.map { [$0] } ?? [], descriptor: descriptor, control: control).check()
    if let target, target.bytes < PageRuns.pageByteCount {
      throw .rejected(option: "--target", value: target.optionText, reason: "a guest keeps a page of 4 KiB at least")
    }
    if let interval = statisticsInterval, interval <= .zero {
      throw .rejected(
        option: "--statistics-interval", value: interval.optionText, reason: "the guest cannot be asked without pause")
    }
  }

  func run() throws {
    if printCapabilities { return Terminal.write("{\"type\": \"balloon\", \"features\": []}\n") }
    // Before anything else, so that a signal never finds sockets to leave behind.
    let signals = try SignalDescriptor()
    let loop = try EventLoop()
    let service = try BalloonService(self, loop: loop, standardInput: FileDescriptor(owning: 0))
    try loop.watch(signals.descriptor.rawValue) { loop.stop() }
    try loop.run()
    try service.end()
  }

  /// What the device offers its driver.
  var deviceOptions: BalloonOptions {
    var options = BalloonOptions()
    options.deflateOnOutOfMemory = deflateOnOutOfMemory
    options.freePageHint = freePageHinting
    options.pagePoison = pagePoison
    options.pageReporting = freePageReporting
    options.numbering = fixedQueueNumbers ? .fixed : .consecutive
    // Front-ends choose a size without asking; none is known to choose a larger one.
    options.leastQueueSize = 1024
    return options
  }

  var protocolFeatures: ProtocolFeatures {
    let features: ProtocolFeatures = inbandNotifications ? .supported : .standard
    // What is noted for a successor would have to be recorded too.
    return record == nil ? features : features.subtracting(.inflightRegion)
  }
}
