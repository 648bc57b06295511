import LinuxIO
import Options
import Recording
import VhostUser
import VirtioBlk
import VirtioCore

/// `virtiokit blk`
struct BlkCommand: Command {
  static let name = "blk"
  static let summary = "Serves a disk to a vhost-user front-end."
  static let discussion = """
    While it runs it takes commands, one a line, on the control socket and on standard input; "help" lists them. It \
    serves one front-end after another, and ends on SIGTERM or "quit" when the requests that it has are finished. \
    The image is locked while a guest uses it, as QEMU and its tools lock theirs.
    """
  static let examples = [
    Example("--socket-path /run/disk.sock --image disk.img", "Serve an image."),
    Example("--socket-path /run/disk.sock --image disk.qcow2 --format qcow2", "Serve a qcow2 image."),
    Example("--socket-path /run/disk.sock --image nbd://server/disk", "Serve what an NBD server exports."),
    Example("--socket-path /run/disk.sock --image base.img --overlay mine.qcow2", "Leave the image as it is."),
    Example("--socket-path /run/disk.sock --memory 1G", "Serve a disk that is gone with this program."),
  ]

  var socketPath: String?
  var descriptor: Int?
  var image: String?
  var format: ImageFormat?
  var memory: ByteCount?
  var null: ByteCount?
  var overlay: String?
  var isReadOnly = false
  var isDirect = false
  var serial = "virtiokit"
  var queueCount = 16
  var threadCount = 16
  var pollLimit = Duration.microseconds(32)
  var connectionCount = 1
  var operationsPerSecond = 0
  var bandwidth: ByteCount?
  var noFlush = false
  var control: String?
  var record: String?
  var printCapabilities = false

  mutating func declare(in options: inout OptionTable) {
    options.value("socket-path", &socketPath, "where front-ends connect", placeholder: "PATH")
    options.value("fd", &descriptor, "the inherited socket of a front-end that is connected already")
    options.value(
      "image", &image, "the image: a file, a block device, or an NBD export (nbd://HOST/NAME)", placeholder: "PATH")
    options.value("format", &format, "what a file or block device holds; raw if not said")
    options.value(
      "overlay", &overlay, "keep what the guest writes in this qcow2 image, and the image as it is", placeholder: "PATH"
    )
    options.value("memory", &memory, "serve a disk of this size in memory")
    options.value("null", &null, "serve a disk of this size that keeps nothing, to measure")
    options.flag("read-only", &isReadOnly, "offer a disk that cannot be written")
    options.flag("direct", &isDirect, "go past the page cache")
    options.value("serial", &serial, "what the guest sees as serial number, at most 20 bytes")
    options.value("num-queues", &queueCount, "how many request queues the guest may use")
    options.value("threads", &threadCount, "how many requests wait for the image at a time")
    options.value(
      "poll", &pollLimit, "how long to look for requests before sleeping, where it pays: 0s, for never, to 1ms")
    options.value("connections", &connectionCount, "how many connections to an NBD server, where it allows several")
    options.value("iops", &operationsPerSecond, "how many requests a second are let through; 0 for all")
    options.value("bandwidth", &bandwidth, "how many bytes a second are let through")
    options.flag("no-flush", &noFlush, "promise nothing: what is written may be lost with the power")
    options.value("control", &control, "where commands are taken", placeholder: "PATH")
    options.value(
      "record", &record, "write all that guests do to this file, for replay; slow", placeholder: "PATH")
    options.flag("print-capabilities", &printCapabilities, "print what this back-end can do, as JSON, and end")
  }

  func validate() throws(OptionError) {
    guard !printCapabilities else { return }
    try SocketOptions(socketPaths: socketPath.map { [$0] } ?? [], descriptor: descriptor, control: control).check()
    try checkContents()
    guard (1...256).contains(queueCount) else {
      throw .rejected(option: "--num-queues", value: "\(queueCount)", reason: "a disk has 1 to 256 queues")
    }
    guard (1...256).contains(threadCount) else {
      throw .rejected(option: "--threads", value: "\(threadCount)", reason: "1 to 256 requests can wait at a time")
    }
    guard pollLimit >= .zero, pollLimit <= .milliseconds(1) else {
      throw .rejected(
        option: "--poll", value: pollLimit.optionText, reason: "longer than 1ms would hold everything else up")
    }
    guard operationsPerSecond >= 0 else {
      throw .rejected(option: "--iops", value: "\(operationsPerSecond)", reason: "no disk does less than nothing")
    }
    guard (1...16).contains(connectionCount) else {
      throw .rejected(option: "--connections", value: "\(connectionCount)", reason: "1 to 16 are made")
    }
    guard serial.utf8.count <= 20 else {
      throw .rejected(option: "--serial", value: serial, reason: "it is longer than 20 bytes")
    }
  }

  /// What the disk's bytes are in, and the options that only some of that has.
  private func checkContents() throws(OptionError) {
    let sizes = [("--memory", memory), ("--null", null)].compactMap { name, size in size.map { (name, $0.optionText) } }
    let sources = (image.map { [("--image", $0)] } ?? []) + sizes
    guard let source = sources.first else { throw .missingOption("--image", placeholder: "PATH") }
    if sources.count > 1 {
      throw .rejected(
        option: source.0, value: source.1, reason: "\(sources[1].0) is given too, and a disk is one of them")
    }
    if image?.isEmpty == true { throw .missingValue(option: "--image", placeholder: "PATH") }
    let isNBD = NBDAddress.isMeant(by: image ?? "")
    let isFile = image != nil && !isNBD
    if let format, !isFile, format != .raw || !isNBD {
      throw .rejected(
        option: "--format", value: format.optionText, reason: "only an --image in a file has one, and a server's is raw"
      )
    }
    if isDirect, !isFile || format == .qcow2 {
      throw .rejected(option: source.0, value: source.1, reason: "--direct goes with a raw image in a file")
    }
    if connectionCount > 1, !isNBD {
      throw .rejected(
        option: "--connections", value: "\(connectionCount)", reason: "only an NBD server has connections")
    }
    if let overlay, isReadOnly || isDirect || !isFile {
      throw .rejected(
        option: "--overlay", value: overlay, reason: "it goes with an image in a file that is written to alone")
    }
  }

  func run() throws {
    if printCapabilities {
      return Terminal.write("{\"type\": \"block\", \"features\": [\"blk-file\", \"read-only\"]}\n")
    }
    // Before anything else, so that a signal never finds sockets to leave behind.
    let signals = try SignalDescriptor()
    let loop = try EventLoop()
    guard let record else {
      let service = try BlkService(
        self, loop: loop, offering: .standard, needsWorkers: true, desk: .plain,
        standardInput: FileDescriptor(owning: 0)
      ) { BlockDevice($0, deviceOptions, workers: $1, report: Self.report) }
      return try serve(service, signals, loop)
    }
    let sink = try RecordingFile(record).sink
    // What is noted for a successor would have to be recorded too.
    let service = try BlkService(
      self, loop: loop, offering: .standard.subtracting(.inflightRegion), needsWorkers: false,
      desk: .recorded, standardInput: FileDescriptor(owning: 0)
    ) { (store, _) in RecordedDevice(store, deviceOptions, to: sink, report: Self.report) }
    try serve(service, signals, loop)
  }

  private static func report(_ failure: StoreError) {
    Terminal.complain("the disk: \(failure)")
  }

  private func serve<Disk: VirtioDevice & ~Copyable>(
    _ service: BlkService<Disk>, _ given: consuming SignalDescriptor, _ loop: EventLoop
  ) throws {
    let signals = given
    // Held by nobody but its maker, the service takes its sockets with it.
    try loop.watch(signals.descriptor.rawValue) { [unowned service] in
      _ = signals.next()
      service.end()
    }
    try loop.run()
    service.finish()
    try service.checkConnection()
  }

  /// What the device offers its driver.
  var deviceOptions: BlockOptions {
    var options = BlockOptions()
    options.identifier = serial
    options.queueCount = UInt16(clamping: queueCount)
    options.flush = !noFlush
    return options
  }

  /// What the disk is, for people.
  var diskName: String {
    guard let image else { return memory == nil ? "a disk that keeps nothing" : "a disk in memory" }
    let kind = NBDAddress.isMeant(by: image) ? "NBD" : (format ?? .raw).rawValue
    return overlay.map { "\($0), over \(image) (\(kind))" } ?? "\(image) (\(kind)\(isReadOnly ? ", read-only" : ""))"
  }

  var throttleLimits: ThrottleLimits {
    DiskThrottle(
      operationsPerSecond: UInt64(operationsPerSecond), bytesPerSecond: bandwidth?.bytes ?? 0
    ).limits
  }
}
