import Balloon
import GuestRAM
import LinuxIO
import Options
import Recording
import VhostUser
import VirtioCore

/// A balloon, the front-ends that use it, and the operator's commands, on one event loop.
final class BalloonService {
  typealias Device = RecordedDevice<BalloonDevice<RecordedReclaimer<MemoryReclaimer>>>

  private let loop: EventLoop
  private let device: ServedDevice<Device>
  private let statisticsInterval: Duration?
  private let timer: Timer
  private var frontends: Frontends<Device>?
  private var console: Console?
  private var control: ControlServer?
  /// What the guest is to keep, whatever memory it turns out to have.
  private var wantedMemory: ByteCount?
  /// How things stood when the operator last changed them.
  private var before: BalloonMoment?

  /// - Parameter standardInput: where commands are typed, if anywhere.
  init(_ command: BalloonCommand, loop: EventLoop, standardInput: consuming FileDescriptor?) throws {
    self.loop = loop
    let sink = try command.record.map { path in try RecordingFile(path).sink }
    device = ServedDevice(Device(command.deviceOptions, reclaimer: MemoryReclaimer(), to: sink))
    statisticsInterval = command.statisticsInterval
    wantedMemory = command.target
    timer = try Timer()
    try pollStatistics()
    if let path = command.control {
      control = try ControlServer(path: path, loop: loop) { [unowned self] in execute($0) }
    }
    if let entrance = Frontends<Device>.Entrance(socketPath: command.socketPath, descriptor: command.descriptor) {
      frontends = try Frontends(
        of: device, from: entrance, loop: loop, offering: command.protocolFeatures
      ) { [unowned self] in take($0) }
    }
    Terminal.complain("serving a balloon\(command.target.map { ", for guests to keep \($0)" } ?? "")")
    if let standardInput { console = try Console(standardInput, loop: loop) { [unowned self] in execute($0) } }
  }

  /// Lets go of all sockets. Throws what ended the one connection that there was to serve.
  func end() throws {
    frontends?.end {}
    device.update { $0.recorder?.finish() }
    try frontends?.checkConnection()
  }

  private func take(_ event: Session<Device>.Event) {
    switch event {
    case .attached(let memory): fitTarget(to: memory)
    case .broken, .untracked: break
    case .ended:
      before = nil
      // A balloon's size was meant for the guest that was there; a guest's size is for whoever comes.
      if wantedMemory == nil { device.update { $0.setTarget(BalloonTarget(pageCount: 0)) } }
    }
  }
}

/// Targets.
extension BalloonService {
  /// A guest that has just come has touched little of its memory, so there is nothing to compare a later size with.
  private func fitTarget(to memory: GuestMemory) {
    do throws(BalloonError) {
      let kept = wantedMemory?.bytes ?? device.update { $0.model.target.memoryByteCount(of: memory.byteCount) }
      let target = try BalloonTarget(memoryByteCount: kept, of: memory.byteCount)
      device.update { $0.setTarget(target) }
    } catch {
      Terminal.complain("this guest keeps all its memory: \(error)")
      device.update { $0.setTarget(BalloonTarget(pageCount: 0)) }
    }
  }

  private func setTarget(_ target: BalloonTarget) throws(GuestMemoryError) {
    let resident = try device.memory?.residentByteCount() ?? 0
    device.update { balloon in
      before = balloon.model.moment(residentByteCount: resident)
      balloon.setTarget(target)
    }
  }

  private func keep(_ size: ByteCount) throws {
    if let memory = device.memory {
      try setTarget(BalloonTarget(memoryByteCount: size.bytes, of: memory.byteCount))
    }
    wantedMemory = size
  }

  private func inflate(to size: ByteCount) throws {
    let pageByteCount = PageRuns.pageByteCount
    guard size.bytes % pageByteCount == 0, let pageCount = UInt32(exactly: size.bytes / pageByteCount) else {
      throw CommandError.noBalloonSize(size)
    }
    if let memory = device.memory, size.bytes >= memory.byteCount {
      throw CommandError.balloonAboveMemory(size, memory: ByteCount(bytes: memory.byteCount))
    }
    try setTarget(BalloonTarget(pageCount: pageCount))
    wantedMemory = nil
  }
}

/// Statistics.
extension BalloonService {
  private func pollStatistics() throws {
    guard let statisticsInterval else { return }
    device.update { $0.pollStatistics(every: statisticsInterval.nanoseconds) }
    try loop.watch(timer.descriptor.rawValue) { [unowned self] in
      timer.drain()
      device.wake()
      startTimer()
    }
    startTimer()
  }

  /// A driver that has not answered yet is looked at again after a whole interval.
  private func startTimer() {
    guard let statisticsInterval else { return }
    let next = device.update { $0.model.timeToNextPoll }
    // Due even now, after the device was woken: the queue is not being served.
    guard let next, next > 0 else { return timer.start(after: statisticsInterval) }
    timer.start(after: .nanoseconds(Int64(clamping: next)))
  }
}

/// Commands.
extension BalloonService {
  private func execute(_ line: String) -> Reply {
    do {
      return try perform(OperatorCommand(line))
    } catch {
      return .failure("\(error)")
    }
  }

  private func perform(_ command: OperatorCommand) throws -> Reply {
    switch command {
    case .balloon(let size):
      try keep(size)
      if device.memory == nil { return .success("no guest is connected: this holds for those that come\n") }
    case .inflate(let size):
      try inflate(to: size)
      if device.memory == nil { return .success("no guest is connected: this holds for the next\n") }
    case .statistics:
      device.update { $0.requestStatistics() }
      device.wake()
    case .saveState(let path): return .success(try device.saveState(to: path))
    case .info(let asJSON): return .success(try information(asJSON: asJSON))
    case .help: return .success(OperatorCommand.helpText)
    case .quit: loop.stop()
    }
    return .success("")
  }

  private func information(asJSON: Bool) throws(GuestMemoryError) -> String {
    let memory = device.memory
    let resident = try memory?.residentByteCount() ?? 0
    let information = device.update { balloon in
      let report = balloon.model.report(
        guestByteCount: memory?.byteCount ?? 0, residentByteCount: resident,
        since: before ?? balloon.model.moment(residentByteCount: resident))
      let readings = BalloonStatistic.allCases.map { ($0, balloon.model.reading(of: $0)) }
      return BalloonInformation(memoryByteCount: memory?.byteCount, report: report, readings: readings)
    }
    return asJSON ? "\(information.json)\n" : information.text
  }
}

extension Duration {
  fileprivate var nanoseconds: UInt64 {
    let (seconds, attoseconds) = components
    return UInt64(clamping: seconds) &* 1_000_000_000 &+ UInt64(clamping: attoseconds / 1_000_000_000)
  }
}
