import Balloon
import DeviceState
import GuestRAM
import Options
import VirtioBlk
import VirtioCore
import VirtioNet

/// Whether devices could go on from a snapshot: found out by restoring each in a device that has everything.
extension StateReport {
  mutating func check(_ snapshot: Snapshot) {
    let instances = Set(snapshot.sections.map(\.instance)).sorted()
    for instance in instances {
      var trial = DeviceTrial(snapshot, instance)
      trial.balloon()
      trial.block()
      trial.net()
      append(trial.report)
    }
    for section in snapshot.sections where !KnownState.all.contains(where: { $0.section == section.name }) {
      note("section \(section.label): nothing here reads it")
    }
    let hasDevice = snapshot.sections.contains { ["balloon", "block", "net"].contains($0.name) }
    if !hasDevice { note("there is no device in it that is known here") }
  }

  private mutating func append(_ other: StateReport) {
    for line in other.lines {
      if line.hasPrefix("note: ") { note(String(line.dropFirst(6))) } else { fault(line) }
    }
  }
}

/// The devices of one instance, each tried out.
private struct DeviceTrial {
  private let snapshot: Snapshot
  private let instance: String
  private(set) var report = StateReport()

  init(_ snapshot: Snapshot, _ instance: String) {
    self.snapshot = snapshot
    self.instance = instance
  }

  private func name(_ section: String) -> String { instance.isEmpty ? section : "\(section)/\(instance)" }

  // MARK: - The devices

  mutating func balloon() {
    guard let parts = parts(of: BalloonState.self) else { return }
    var options = BalloonOptions()
    options.deflateOnOutOfMemory = true
    options.numbering = parts.model.numbering
    options.leastQueueSize = max(options.leastQueueSize, parts.largestQueue)
    restore(BalloonDevice(options, reclaimer: NoReclaimer()), parts)
    compare(target: parts.model.targetPages, actual: parts.model.actualPages, parts.memory)
  }

  mutating func block() {
    guard let parts = parts(of: BlockState.self) else { return }
    guard parts.model.capacitySectors <= UInt64(Int64.max) / 512 else {
      return report.fault("\(name("block")): a disk of \(parts.model.capacitySectors) sectors cannot be")
    }
    var options = BlockOptions()
    options.queueCount = UInt16(clamping: max(2, parts.queueCount))
    options.queueSize = max(options.queueSize, parts.largestQueue)
    options.sizeMax = 1 << 20
    let store = BlankStore(
      byteCount: parts.model.capacitySectors * 512, isReadOnly: parts.features.contains(.blockReadOnly))
    restore(BlockDevice(store, options), parts)
    if parts.model.flushFailed {
      report.note("\(name("block")): a flush has failed: what was written before may be lost, and every flush fails")
    }
  }

  mutating func net() {
    guard let parts = parts(of: NetState.self) else { return }
    var options = NetOptions(address: parts.model.address)
    // Each pair takes room, so a state that wants more than any card has is left to the card to refuse.
    options.pairCount = min(max(2, Int(parts.model.pairCount), (parts.queueCount + 1) / 2), 128)
    options.queueSize = max(options.queueSize, parts.largestQueue)
    options.mtu = 1500
    options.speed = 10_000
    restore(NetDevice(options, ports: [NoPort()]), parts)
    if parts.model.asksToAnnounce { report.note("\(name("net")): the driver has been asked to announce itself") }
  }

  private mutating func compare(target: UInt32, actual: UInt32, _ memory: GuestMemory?) {
    let size = { (pages: UInt32) in ByteCount(bytes: UInt64(pages) * 4096) }
    let what = "\(name("balloon")): target \(size(target)), actual \(size(actual))"
    if target != actual { report.note("\(what): the driver is under way, or has no more to give") }
    guard let memory else { return }
    for (field, pages) in [("targetPages", target), ("actualPages", actual)] where size(pages).bytes > memory.byteCount
    {
      report.fault("\(what): \(field) is above the guest's memory of \(ByteCount(bytes: memory.byteCount))")
    }
  }

  // MARK: - Any device

  private struct Parts<Model: SavedState> {
    let model: Model
    let host: HostState<Model>?
    let memory: GuestMemory?

    var features: Features { host?.features ?? [] }
    var queueCount: Int { (host?.queues.map { Int($0.index) }.max() ?? -1) + 1 }
    /// Of the legal ones; others are found out about later.
    var largestQueue: UInt16 { host?.queues.map(\.size).filter { $0.nonzeroBitCount == 1 }.max() ?? 0 }
  }

  /// The sections of a device, or nil when there are none or they cannot be read.
  private mutating func parts<Model: SavedState>(of _: Model.Type) -> Parts<Model>? {
    let hasHost = snapshot.contains(HostState<Model>.self, instance: instance)
    guard hasHost || snapshot.contains(Model.self, instance: instance) else { return nil }
    do throws(StateError) {
      let model = try snapshot.read(Model.self, instance: instance)
      let host = hasHost ? try snapshot.read(HostState<Model>.self, instance: instance) : nil
      try host?.check()
      return Parts(model: model, host: host, memory: try memory())
    } catch {
      report.fault("\(error)")
      return nil
    }
  }

  private mutating func memory() throws(StateError) -> GuestMemory? {
    guard snapshot.contains(MemoryImage.self, instance: instance) else { return nil }
    let image = try snapshot.read(MemoryImage.self, instance: instance)
    do throws(GuestMemoryError) {
      return try image.makeMemory()
    } catch {
      report.fault("\(name(MemoryImage.section)): \(error)")
      return nil
    }
  }

  private mutating func restore<Device: VirtioDevice & ~Copyable>(
    _ device: consuming Device, _ parts: Parts<Device.State>
  ) {
    let section = name(Device.State.section)
    guard let state = parts.host else {
      report.note("\(section): there is no \(Device.State.section)-host, so features and queues are not checked")
      return
    }
    if let memory = parts.memory {
      for queue in state.queues where queue.isRunning {
        let survey = RingSurvey(queue, state.features, memory)
        for problem in survey.problems { report.fault("\(section): queue \(queue.index): \(problem)") }
      }
    } else if state.queues.contains(where: \.isRunning) {
      report.note("\(section): the guest's memory is not in the snapshot, so rings are not checked")
    }
    do throws(HostError) {
      var host = DeviceHost(device) { _ in }
      try Self.adopt(parts, state, in: &host, snapshot, instance)
    } catch {
      report.fault("\(section): \(error)")
    }
  }

  private static func adopt<Device: VirtioDevice & ~Copyable>(
    _ parts: Parts<Device.State>, _ state: HostState<Device.State>, in host: inout DeviceHost<Device>,
    _ snapshot: Snapshot, _ instance: String
  ) throws(HostError) {
    if let memory = parts.memory {
      try host.attach(memory)
      var snapshot = snapshot
      return try host.restore(from: &snapshot, instance: instance)
    }
    guard state.device == Device.id.rawValue else { throw .otherDevice(state.device, isHere: Device.id.rawValue) }
    try host.acceptFeatures(state.features)
    try host.adopt(model: parts.model)
  }
}

/// A disk of zeros.
private final class BlankStore: BlockStore {
  let byteCount: UInt64
  let isReadOnly: Bool
  let limits = BlockLimits()

  init(byteCount: UInt64, isReadOnly: Bool) {
    self.byteCount = byteCount
    self.isReadOnly = isReadOnly
  }

  func perform(_ operation: BlockOperation, _ data: inout BlockData, mayWait: Bool) throws(StoreError) -> Bool { true }
}

/// A network without anybody.
private final class NoPort: PacketPort {
  let name = "nobody"
  let takenOffloads = Offloads.all
  let descriptor: Int32? = nil
  let counters = PortCounters()
  let failure: PortError? = nil

  func setGivenOffloads(_ offloads: Offloads) {}
  func send(_ batch: inout PacketBatch) { batch.removeAll() }
  func receive(into batch: inout PacketBatch) {}
}

/// Leaves memory as it is.
private struct NoReclaimer: PageReclaimer {
  func giveUp(_ range: GuestRange, of memory: GuestMemory) throws(GuestMemoryError) -> UInt64 { 0 }
  func release(_ range: GuestRange, of memory: GuestMemory) throws(GuestMemoryError) -> UInt64 { 0 }
  func takeBack(_ range: GuestRange, of memory: GuestMemory) {}
  func reset() {}
}
