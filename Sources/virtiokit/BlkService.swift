import LinuxIO
import Options
import VhostUser
import VirtioBlk
import VirtioCore

/// A disk, the front-ends that use it, and the operator's commands, on one event loop.
final class BlkService<Disk: VirtioDevice & ~Copyable> {
  private let loop: EventLoop
  private let device: ServedDevice<Disk>
  private let desk: DiskDesk<Disk>
  private let stack: DiskStack
  /// Nil for a disk whose own thread waits.
  private let workers: BlockWorkers?
  private var frontends: Frontends<Disk>?
  private var console: Console?
  private var control: ControlServer?
  private var isEnding = false

  /// - Parameters:
  ///   - features: what of the protocol to offer.
  ///   - needsWorkers: whether the disk has others wait for its store.
  ///   - desk: what can be done with the disk.
  ///   - standardInput: where commands are typed, if anywhere.
  ///   - make: makes the disk.
  init(
    _ command: BlkCommand, loop: EventLoop, offering features: ProtocolFeatures, needsWorkers: Bool,
    desk: DiskDesk<Disk>, standardInput: consuming FileDescriptor?, make: (any BlockStore, BlockWorkers?) -> Disk
  ) throws {
    self.loop = loop
    self.desk = desk
    stack = try DiskStack(command)
    let store = stack.store
    let finished = Doorbell()
    let inbox = try loop.inbox(of: Void.self) { _ in finished.ring() }
    workers = needsWorkers ? try BlockWorkers(store, most: command.threadCount) { inbox.post(()) } : nil
    device = ServedDevice(make(store, workers))
    device.poll(on: loop, atMost: command.pollLimit)
    finished.handler = { [unowned self] in device.wake() }
    if let path = command.control {
      control = try ControlServer(path: path, loop: loop) { [unowned self] in execute($0) }
    }
    if let entrance = Frontends<Disk>.Entrance(socketPath: command.socketPath, descriptor: command.descriptor) {
      frontends = try Frontends(of: device, from: entrance, loop: loop, offering: features) { _ in }
    }
    Terminal.complain("serving \(command.diskName), \(ByteCount(bytes: store.byteCount))")
    if let standardInput { console = try Console(standardInput, loop: loop) { [unowned self] in execute($0) } }
  }

  /// Ends the program once the requests that there are have been answered.
  func end() {
    guard !isEnding else { return }
    isEnding = true
    frontends?.end { [unowned self] in
      workers?.stop()
      loop.stop()
    }
  }

  /// All is over: what is recorded is complete.
  func finish() {
    device.update { desk.finish(&$0) }
  }

  func checkConnection() throws(VhostUserError) {
    try frontends?.checkConnection()
  }

  private func execute(_ line: String) -> Reply {
    do {
      return try perform(DiskCommand(line))
    } catch {
      return .failure("\(error)")
    }
  }

  private func perform(_ command: DiskCommand) throws -> Reply {
    switch command {
    case .resize(let size, let mayShrink): try resize(to: size, mayShrink: mayShrink)
    case .throttle(let throttle): stack.throttle.throttle = throttle.limits
    case .fail(let fault, let count): stack.faults.rules = fault.rules(count: count)
    case .saveState(let path): return .success(try device.saveState(to: path))
    case .info(let asJSON): return .success(information(asJSON: asJSON))
    case .help: return .success(DiskCommand.helpText)
    case .quit: end()
    }
    return .success("")
  }

  private func resize(to size: ByteCount, mayShrink: Bool) throws {
    let present = stack.store.byteCount
    guard mayShrink || size.bytes >= present else {
      throw CommandError.wouldShrink(size, from: ByteCount(bytes: present))
    }
    try device.update { (disk) throws(StoreError) in try desk.resize(&disk, size.bytes) }
  }

  private func information(asJSON: Bool) -> String {
    let information = device.update { desk.information($0, device.memory != nil) }
    return asJSON ? "\(information.json)\n" : information.text
  }
}

/// Reaches a device from the inbox that was there before it.
private final class Doorbell {
  var handler: (() -> Void)?

  func ring() { handler?() }
}
