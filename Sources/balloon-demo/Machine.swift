import Balloon
import DeviceState
import GuestRAM
import LinuxIO
import Migration
import SimulatedGuest
import VirtioCore

/// A simulated guest and its balloon, in this process.
struct Machine {
  static let producer = "balloon-demo"
  static let pagesPerStep: UInt32 = 512
  /// While the guest is moved, shrunk or grown, it does a step every 10 ms and touches 50 MiB a second.
  static let pagesPerPacedStep: UInt32 = 128
  static let stepNanoseconds: UInt64 = 10_000_000
  static let stepsPerSecond = 1e9 / Double(stepNanoseconds)

  var guest: Guest
  let transport: DirectTransport<BalloonDevice<MemoryReclaimer>>
  let memory: GuestMemory
  /// When the guest was shrunk last.
  var before: BalloonMoment

  /// What the balloon offers. Free pages that are reported go back to the host at any time: there would be none to hint at.
  private static var balloonOptions: BalloonOptions {
    var options = BalloonOptions()
    options.pageReporting = false
    return options
  }

  private typealias Balloon = BalloonDevice<MemoryReclaimer>

  private static func makeBalloon() -> Balloon { BalloonDevice(balloonOptions, reclaimer: MemoryReclaimer()) }

  /// What a guest has to agree with to go on in this process.
  static var destinationProfile: GuestProfile { profile(of: DeviceHost(makeBalloon()) { (_) in }) }

  /// What this guest asks of the process that it goes to.
  var profile: GuestProfile { Self.profile(of: transport.host) }

  private static func profile(of host: borrowing DeviceHost<Balloon>) -> GuestProfile {
    var profile = GuestProfile()
    profile.add(host)
    profile.add(GuestState.self)
    return profile
  }

  /// Boots a guest, and has it use most of its memory (`fill`).
  init(
    memoryByteCount: UInt64, seed: UInt64, workload: Workload, pins: Bool = false, progress: (String) throws -> Void
  ) throws {
    memory = try GuestMemory(byteCount: memoryByteCount)
    if pins { try memory.pin() }
    transport = try DirectTransport(Self.makeBalloon(), memory: memory)
    let pageCount = UInt32(memoryByteCount / 4096)
    let configuration = GuestConfiguration(
      seed: seed, diskPages: pageCount / 32, filePages: pageCount / 2, workingSetPages: pageCount / 32,
      anonymousPages: pageCount / 4,
      workload: workload, pagesPerStep: Self.pagesPerStep)
    guest = try Guest.boot(configuration, in: memory, balloon: transport)
    before = transport.host.device.moment(residentByteCount: 0)
    try fill(progress)
  }

  /// Restores a guest that has arrived, with its device paused.
  init(_ arrived: ArrivedGuest) throws {
    memory = arrived.memory
    transport = try DirectTransport(Self.makeBalloon(), memory: memory)
    var snapshot = try Snapshot(decoding: arrived.state)
    try transport.host.restore(from: &snapshot)
    guest = try Guest(restoring: snapshot.take(GuestState.self), in: memory, balloon: transport)
    try snapshot.checkAllTaken()
    before = transport.host.device.moment(residentByteCount: 0)
  }

  /// Lets the guest read files until half of its memory is used, and run a program that takes a quarter and ends: what it
  /// had is free then, with its content still there. Afterwards the guest turns to its workload.
  mutating func fill(_ progress: (String) throws -> Void) throws {
    let workload = guest.workload
    defer { guest.workload = workload }
    guest.workload = .pageCache
    let half = memory.byteCount / 2
    try run({ $0.freeByteCount <= half }, progress)
    guest.workload = .pressure
    var used: UInt64 = 0
    try run(
      { (figures) in
        defer { used = figures.workloadByteCount }
        // It may have begun in the middle, and ended before it had much.
        return figures.workloadByteCount < used && used > half / 4
      }, progress)
  }

  /// Lets the guest run until it says so of itself, or has touched all of its memory.
  private mutating func run(
    _ isDone: (SimulatedGuest.GuestFigures) -> Bool, _ progress: (String) throws -> Void
  ) throws {
    let most = memory.byteCount / 4096 / UInt64(Self.pagesPerStep) + 1
    for _ in 0..<most {
      let figures = try guest.figures()
      if isDone(figures) { return }
      try progress("the guest uses its memory: \(Size(figures.freeByteCount)) free")
      try guest.step()
    }
  }

  /// What the guest, its balloon and the host have to say, with every page that the guest has written looked at.
  func view() throws -> HostView {
    let figures = try guest.figures()
    let integrity = try guest.checkIntegrity()
    let resident = try memory.residentByteCount()
    let report = transport.host.device.report(
      guestByteCount: memory.byteCount, residentByteCount: resident, since: before)
    var view = HostView()
    view.guest = HostView.GuestMemoryUse(
      total: figures.totalByteCount, free: figures.freeByteCount, cache: figures.cacheByteCount,
      disk: figures.diskByteCount, balloon: figures.balloonByteCount)
    view.balloon = HostView.BalloonUse(
      target: report.targetByteCount, actual: report.actualByteCount, reclaimed: report.reclaimedByteCount,
      warning: report.warning?.description)
    view.resident = resident
    view.pinned = memory.isPinned ? resident : 0
    view.checkedPages = Int(integrity.pagesChecked)
    view.fault = integrity.mismatch?.description
    return view
  }
}
