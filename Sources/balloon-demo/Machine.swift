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
  private static let pagesPerStep: UInt32 = 512
  /// While the balloon changes, which takes many steps of its driver.
  private static let pagesPerBalloonStep: UInt32 = 16
  /// How many steps in a row may pass without a page moving before the guest counts as unable.
  private static let patience = 2000

  var guest: Guest
  let transport: DirectTransport<BalloonDevice<MemoryReclaimer>>
  let memory: GuestMemory
  private var before: BalloonMoment

  /// Boots a guest and lets it read files until its page cache has filled most of its memory; then it turns to
  /// its workload.
  init(
    memoryByteCount: UInt64, seed: UInt64, workload: Workload, progress: (String) throws -> Void
  ) throws {
    memory = try GuestMemory(byteCount: memoryByteCount)
    transport = try DirectTransport(BalloonDevice(reclaimer: MemoryReclaimer()), memory: memory)
    let pageCount = UInt32(memoryByteCount / 4096)
    let configuration = GuestConfiguration(
      seed: seed, diskPages: pageCount / 32, workingSetPages: pageCount / 32, anonymousPages: pageCount / 8,
      workload: .pageCache, pagesPerStep: Self.pagesPerStep)
    guest = try Guest.boot(configuration, in: memory, balloon: transport)
    before = transport.host.device.moment(residentByteCount: 0)
    var figures = try guest.figures()
    while figures.freeByteCount > memoryByteCount * 3 / 8 {
      try guest.run(steps: 8)
      figures = try guest.figures()
      try progress("the guest fills its page cache: \(Size(figures.cacheByteCount))")
    }
    guest.workload = workload
    try work(progress)
  }

  /// Restores a guest that has arrived, with its device paused.
  init(_ arrived: ArrivedGuest) throws {
    memory = arrived.memory
    transport = try DirectTransport(BalloonDevice(reclaimer: MemoryReclaimer()), memory: memory)
    var snapshot = try Snapshot(decoding: arrived.state)
    try transport.host.restore(from: &snapshot)
    guest = try Guest(restoring: snapshot.take(GuestState.self), in: memory, balloon: transport)
    try snapshot.checkAllTaken()
    before = transport.host.device.moment(residentByteCount: 0)
  }

  /// Lets the guest work for about as long as it takes to touch a sixteenth of its memory.
  mutating func work(_ progress: (String) throws -> Void) throws {
    let steps = max(1, Int(memory.byteCount / 4096 / 16 / UInt64(Self.pagesPerStep)))
    for step in 0..<steps {
      try guest.step()
      try progress("the guest works: step \(step + 1) of \(steps)")
    }
  }

  /// Has the balloon leave the guest so much memory, and lets the guest run until it does or moves no more pages.
  mutating func resize(to byteCount: UInt64, progress: (String) throws -> Void) throws {
    let target = try BalloonTarget(memoryByteCount: byteCount, of: memory.byteCount)
    before = transport.host.device.moment(residentByteCount: try memory.residentByteCount())
    transport.host.update { $0.setTarget(target) }
    var last = transport.host.device.actualPageCount
    var idleSteps = 0
    guest.pagesPerStep = Self.pagesPerBalloonStep
    defer { guest.pagesPerStep = Self.pagesPerStep }
    while last != target.pageCount, idleSteps < Self.patience {
      try guest.step()
      let actual = transport.host.device.actualPageCount
      idleSteps = actual == last ? idleSteps + 1 : 0
      last = actual
      try progress("the balloon holds \(Size(UInt64(actual) * 4096)) of \(Size(UInt64(target.pageCount) * 4096))")
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
    view.checkedPages = Int(integrity.pagesChecked)
    view.fault = integrity.mismatch?.description
    return view
  }
}
