import LinuxIO
import Migration
import Options

/// `virtiokit migrate`
struct MigrateCommand: Command {
  static let name = "migrate"
  static let summary = "Moves a running QEMU guest, takes one, or tells what a move would be like."
  static let discussion = """
    The guest's memory has to be a shared file: -machine …,memory-backend=ram -object \
    memory-backend-file,id=ram,size=SIZE,share=on,mem-path=/dev/shm/NAME. It goes over our connection, without what the \
    guest never used and what its balloon has given back; the state of its processors and devices comes from QEMU \
    itself, and takes less than one MiB.

    The destination is a QEMU with the same machine and devices, a memory file of its own and -incoming defer. Start \
    virtiokit migrate --receive beside it first. A source that fails or only asks for a forecast costs it nothing: it \
    waits for the next one.

    A guest that --balloon shrinks is asked for less step by step where its statistics are looked at: for auto, and with \
    --keep-available. It gives no more once it would have less available than it is to keep, swaps, or kills programs for \
    want of memory; then it is moved as it is, and the outcome names why.

    One side runs the guest, whatever fails. Exit status: 0 it has been moved; 1 it has not, and is where it was; 2 \
    the command line makes no sense; 3 the guest was given away and nobody said that it arrived: it is paused here, and \
    must not be resumed before it is certain that it does not run there; 4 a forecast says that it will not fit; \
    5 the guest has been taken, and QEMU does not run it or give it its memory back: it is nowhere else.
    """
  static let examples = [
    Example("--receive tcp:0.0.0.0:4444 --qemu /run/there.qmp", "Take a guest, where a QEMU waits for it."),
    Example("--to tcp:host2:4444 --qemu /run/here.qmp --balloon auto", "Shrink the guest, and move it while it runs."),
    Example(
      "--to tcp:host2:4444 --qemu /run/here.qmp --downtime-limit 50ms --slow-down",
      "Slow it down if it writes too fast."),
    Example("--forecast --to tcp:host2:4444 --qemu /run/here.qmp", "Measure guest and connection, and move nothing."),
    Example("--forecast --bandwidth 100M --qemu /run/here.qmp", "The same for a connection that is not there yet."),
  ]

  var qemu = ""
  var to: String?
  var receive: String?
  var forecasts = false
  /// How much memory the guest is to keep while it is moved; `auto` for what it needs by its own statistics.
  var balloon: SizeOrAuto?
  /// How much memory has to stay available in the guest while it shrinks.
  var keepAvailable: ByteCount?
  var downtimeLimit = Duration.milliseconds(300)
  var bandwidth: ByteCount?
  var switchoverBandwidth: ByteCount?
  var asks = false
  var staysPaused = false
  var slowsDown = false
  var stopsAnyway = false
  var compresses = false
  var pausesFirst = false
  var verifies = false
  var quits = false
  var zeroCopyChoice: ZeroCopyChoice?
  var pins = false
  var report: String?
  var asJSON = false
  var timeout = Duration.seconds(30)

  mutating func declare(in options: inout OptionTable) {
    options.required("qemu", &qemu, "QEMU's control socket: its -qmp unix:PATH,server=on,wait=off", placeholder: "PATH")
    options.value(
      "to", &to, "give the guest away: tcp:HOST:PORT, unix:PATH, exec:COMMAND, fd:NUMBER", placeholder: "ADDRESS")
    options.value("receive", &receive, "take a guest; likewise", placeholder: "ADDRESS")
    options.flag("forecast", &forecasts, "only tell how long a move would take, and what would help")
    options.value("balloon", &balloon, "ask the guest to keep this much while it is moved; auto: what it needs")
    options.value(
      "keep-available", &keepAvailable, "shrink no further than leaves the guest this much for programs")
    options.value("downtime-limit", &downtimeLimit, "how long the guest may stand still for its last pages")
    options.value("bandwidth", &bandwidth, "the most bytes a second while it runs")
    options.value(
      "switchover-bandwidth", &switchoverBandwidth,
      "what the connection carries in a second once the guest stands still, if more than is measured before")
    options.flag("ask", &asks, "stop the guest only after a line has come on standard input")
    options.flag("stay-paused", &staysPaused, "with --receive: leave the guest paused once it is here")
    options.flag("slow-down", &slowsDown, "slow the guest down, step by step, if it writes too fast")
    options.flag("stop-anyway", &stopsAnyway, "stop a guest that still writes too fast, for however long that takes")
    options.flag("compress", &compresses, "compress pages, and send what has changed of them, as far as that is faster")
    options.flag("pause-first", &pausesFirst, "stop the guest first, and move it as it stands")
    options.flag("verify", &verifies, "compare the memory on both sides, page by page, while the guest stands still")
    options.value(
      "zero-copy", &zeroCopyChoice, "send what the guest stands still for without a copy, as TCP and unix sockets can")
    options.flag("pin", &pins, "keep the guest's memory out of swap while it is moved; both sides can be told")
    options.flag("quit", &quits, "end the QEMU that the guest has left")
    options.value("report", &report, "write a page with plots, which opens without a network", placeholder: "FILE")
    options.flag("json", &asJSON, "print one JSON object at the end, and nothing else")
    options.value("timeout", &timeout, "how long the other side may take for each answer")
  }

  func validate() throws(OptionError) {
    try SocketOptions.check(qemu, of: "--qemu")
    _ = try (Self.address(to, of: "--to"), Self.address(receive, of: "--receive"))
    if let receive { try checkReceiving(at: receive) }
    if to == nil, receive == nil, !forecasts { throw .missingOption("--to", placeholder: "ADDRESS") }
    if forecasts, to == nil, bandwidth == nil { throw .missingOption("--bandwidth", placeholder: "SIZE") }
    if let balloon, forecasts {
      throw .rejected(
        option: "--balloon", value: balloon.optionText,
        reason: "a forecast changes nothing, and tells what it would save")
    }
    if let keepAvailable, balloon == nil {
      throw .rejected(
        option: "--keep-available", value: keepAvailable.optionText, reason: "it is for a guest that --balloon shrinks")
    }
    if let to, pausesFirst { try checkPausing(before: to) }
    if let to, asks, to == "fd:0" || to.hasPrefix("fd:0,") {
      throw .rejected(option: "--ask", value: to, reason: "standard input is the connection")
    }
    if let to, staysPaused {
      throw .rejected(option: "--to", value: to, reason: "--stay-paused is for whoever takes the guest")
    }
    if report?.isEmpty == true { throw .missingValue(option: "--report", placeholder: "FILE") }
    guard timeout > .zero else {
      throw .rejected(option: "--timeout", value: timeout.optionText, reason: "nobody answers in no time")
    }
  }

  /// Whoever gives a guest away decides how it is moved.
  private func checkReceiving(at receive: String) throws(OptionError) {
    let others: [(String, Bool)] = [
      ("--to", to != nil), ("--forecast", forecasts), ("--balloon", balloon != nil), ("--bandwidth", bandwidth != nil),
      ("--keep-available", keepAvailable != nil),
      ("--slow-down", slowsDown), ("--stop-anyway", stopsAnyway), ("--compress", compresses),
      ("--pause-first", pausesFirst), ("--verify", verifies), ("--quit", quits), ("--report", report != nil),
      ("--switchover-bandwidth", switchoverBandwidth != nil), ("--ask", asks), ("--zero-copy", zeroCopyChoice != nil),
    ]
    guard let other = others.first(where: \.1)?.0 else { return }
    throw .rejected(
      option: "--receive", value: receive, reason: "\(other) is given too, which is for whoever gives the guest away")
  }

  /// A guest that stands still is sent as it is, as fast as that goes.
  private func checkPausing(before to: String) throws(OptionError) {
    let others: [(String, Bool)] = [
      ("--forecast", forecasts), ("--bandwidth", bandwidth != nil), ("--slow-down", slowsDown),
      ("--stop-anyway", stopsAnyway), ("--compress", compresses), ("--ask", asks),
      ("--switchover-bandwidth", switchoverBandwidth != nil),
    ]
    guard let other = others.first(where: \.1)?.0 else { return }
    throw .rejected(
      option: "--to", value: to, reason: "\(other) is for a guest that runs meanwhile, and --pause-first stops it")
  }

  private static func address(_ text: String?, of option: String) throws(OptionError) -> MigrationAddress? {
    guard let text else { return nil }
    do throws(MigrationError) {
      let address = try MigrationAddress(text)
      guard case .file = address else { return address }
    } catch {
      throw .invalidValue(of: option, value: text, expectation: MigrationAddress.expectation)
    }
    throw .rejected(option: option, value: text, reason: "a guest of QEMU's can only go where somebody answers")
  }

  func run() throws {
    let cancellation = try Cancellation()
    try callOffWhenAsked(cancellation)
    let machine = QemuMachine(try QmpConnection(path: qemu))
    if let receive = try Self.address(receive, of: "--receive") {
      return try GuestTaker(self, machine, cancellation).run(at: receive)
    }
    try GuestGiver(self, machine, cancellation).run(to: Self.address(to, of: "--to"))
  }

  /// `ZeroCopy`, as it is written; unless something is, a guest that stands still from the first page on takes what helps.
  enum ZeroCopyChoice: String, CaseIterable, OptionValue {
    case never
    case ifItHelps = "if-it-helps"
    case always
  }

  var zeroCopy: ZeroCopy {
    switch zeroCopyChoice {
    case nil: pausesFirst ? .ifItHelps : .never
    case .never: .never
    case .ifItHelps: .ifItHelps
    case .always: .always
    }
  }

  var policy: MigrationPolicy {
    MigrationPolicy(
      downtimeLimit: downtimeLimit, mostBytesPerSecond: bandwidth?.bytes,
      switchoverBytesPerSecond: switchoverBandwidth?.bytes, slowsDown: slowsDown, stopsAnyway: stopsAnyway,
      compresses: compresses, forecasts: true, verifies: verifies, pinsMemory: pins, zeroCopy: zeroCopy)
  }
}
