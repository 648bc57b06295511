import Balloon
import GuestRAM
import LinuxIO
import VhostUser

/// A real guest and the balloon that it is served, on one event loop: what they have said so far, and waiting for more.
final class LinuxStage {
  typealias Device = BalloonDevice<MemoryReclaimer>

  /// How often it is made sure that the guest has not ended without a word.
  private static let endCheckInterval = Duration.milliseconds(200)
  /// How often a kernel is started that ends without a word, as User-Mode Linux sometimes does on busy machines.
  private static let mostStarts = 3

  let device: ServedDevice<Device>
  private(set) var guest: LinuxGuest?
  private(set) var kernelRelease = ""
  private(set) var isReady = false
  private(set) var figures: GuestFigures?
  private(set) var verdict: (keptIsGood: Bool, reusedIsGood: Bool)?

  private let loop: EventLoop
  private let signals: SignalDescriptor
  private let timeout: Duration
  private let clock = ContinuousClock()
  private let deadline: ContinuousClock.Instant
  private var server: Server<Device>?
  private var failure: LinuxDemoError?
  private var configuration: LinuxGuest.Configuration?
  private var starts = 0

  /// Starts to listen for the guest, and to count the time.
  init(socketPath: String, signals: consuming SignalDescriptor, timeout: Duration) throws {
    loop = try EventLoop()
    self.signals = signals
    self.timeout = timeout
    deadline = clock.now + timeout
    device = ServedDevice(Device(Self.options, reclaimer: MemoryReclaimer()))
    server = try Server(device, on: UnixListener(path: socketPath), loop: loop) { [unowned self] in take($0) }
    try loop.watch(self.signals.descriptor.rawValue) { [unowned self] in
      if let signal = self.signals.next() { fail(.interrupted(signal: signal)) }
    }
  }

  /// Only what the demo shows. Free page reporting would give memory back before the balloon can.
  private static var options: BalloonOptions {
    var options = BalloonOptions()
    options.pagePoison = false
    options.pageReporting = false
    // User-Mode Linux makes all queues of this size, without asking.
    options.leastQueueSize = 256
    return options
  }

  /// Starts the guest. Whoever waits for its first word starts it again if it ends without any.
  func boot(_ configuration: LinuxGuest.Configuration) throws {
    self.configuration = configuration
    starts += 1
    guest = try LinuxGuest(configuration, loop: loop) { [unowned self] in take($0) }
  }

  /// Ends the guest and the connection with it.
  func clear() {
    guest?.stop()
    server?.end()
    server = nil
  }

  /// Lets guest and device go on until `condition` gives something.
  /// - Parameter aim: what is waited for, to follow "before".
  func wait<Result>(for aim: @autoclosure () -> String, _ condition: () throws -> Result?) throws -> Result {
    while true {
      let hasEnded = guest?.hasEnded ?? true
      // What the guest said before it ended is still to be heard.
      if hasEnded { while try loop.runOnce(within: .zero) > 0 {} }
      if let result = try condition() { return result }
      if let failure { throw failure }
      let lastWords = guest?.lastWords ?? []
      if hasEnded, try startAgain() { continue }
      if hasEnded { throw LinuxDemoError.guestEnded(before: aim(), lastWords: lastWords) }
      let rest = deadline - clock.now
      guard rest > .zero else { throw LinuxDemoError.timedOut(waitingFor: aim(), timeout, lastWords: lastWords) }
      try loop.runOnce(within: min(rest, Self.endCheckInterval))
    }
  }

  /// - Returns: whether the guest had ended without a word, and runs again.
  private func startAgain() throws -> Bool {
    let wasSilent = kernelRelease.isEmpty && guest?.lastWords == []
    guard let configuration, wasSilent, starts < Self.mostStarts else { return false }
    guest?.stop()
    try boot(configuration)
    return true
  }

  /// What goes wrong first is what is told.
  private func fail(_ error: LinuxDemoError) {
    failure = failure ?? error
  }

  private func take(_ line: GuestLine) {
    switch line {
    case .kernel(let release): kernelRelease = release
    case .ready: isReady = true
    case .memory(let figures): self.figures = figures
    case .verdict(let kept, let reused): verdict = (kept, reused)
    case .failed(let reason): fail(.guestFailed(reason))
    }
  }

  private func take(_ event: Server<Device>.Event) {
    switch event {
    case .refused(let error): fail(.deviceFailed("\(error)"))
    case .session(.broken(let error)): fail(.deviceFailed("\(error)"))
    case .session(.ended(let error?)): fail(.deviceFailed("\(error)"))
    case .connected, .session: break
    }
  }
}
