import Balloon
import DeviceState
import GuestRAM
import VirtioBlk
import VirtioCore
import VirtioNet

/// Puts the state of a device of ours into the section that QEMU wrote of it.
struct DevicePatcher {
  let device: VirtioSection
  let saved: SavedDevice
  private let memory: GuestMemory
  private let options: ExportOptions
  /// What the device's driver is to be told by.
  private(set) var messages: [InterruptMessage] = []
  private var patches: [(range: Range<Int>, bytes: [UInt8])] = []

  init(_ device: VirtioSection, _ saved: SavedDevice, _ memory: GuestMemory, _ options: ExportOptions) {
    self.device = device
    self.saved = saved
    self.memory = memory
    self.options = options
  }

  mutating func patchedBody() throws(QEMUStreamError) -> [UInt8] {
    try device.checkCarried()
    try checkDriver()
    try patchQueues()
    switch device.model {
    case .block, .vhostUserBlock: try patchBlock()
    case .balloon: try patchBalloon()
    case .net: try patchNet()
    case .entropy: break
    }
    var body = device.section.body
    // From the end on; what goes in before the place where another patch begins, after that patch.
    let places = patches.sorted {
      ($0.range.lowerBound, $0.range.upperBound) > ($1.range.lowerBound, $1.range.upperBound)
    }
    for patch in places {
      body.replaceSubrange(patch.range, with: patch.bytes)
    }
    return body
  }

  // MARK: - Fields

  func refuse(_ reason: String) -> QEMUStreamError { device.invalid(reason) }

  func range(_ name: String) throws(QEMUStreamError) -> Range<Int> {
    guard let field = device.field(name) else { throw refuse("the template has no field \(name)") }
    let start = Int(field.offset - device.section.bodyOffset)
    return start..<start + field.byteCount
  }

  /// Gives a field another number.
  mutating func set(_ name: String, _ value: UInt64) throws(QEMUStreamError) {
    let range = try range(name)
    set(range, range.indices.map { UInt8(truncatingIfNeeded: value >> UInt64(8 * (range.upperBound - 1 - $0))) })
  }

  mutating func set(_ name: String, _ bytes: [UInt8]) throws(QEMUStreamError) { set(try range(name), bytes) }

  mutating func set(_ range: Range<Int>, _ bytes: [UInt8]) { patches.append((range, bytes)) }

  /// Gives part of the configuration space another content, if QEMU had it ready.
  mutating func setConfig(_ bytes: [UInt8], at offset: Int) throws(QEMUStreamError) {
    guard let config = device.config, offset + bytes.count <= config.count else { return }
    let start = try range("config").lowerBound + offset
    set(start..<start + bytes.count, bytes)
  }

  // MARK: - What every device has

  /// The driver has to be where it was: the rest of the machine, from the template, goes on from there.
  private func checkDriver() throws(QEMUStreamError) {
    let host = saved.hostTree
    guard host.number("status") == UInt64(device.status) else {
      throw refuse("its status is \(host.number("status") ?? 0), and \(device.status) in the template")
    }
    guard host.number("featuresLow") == device.carriedFeatures, host.number("featuresHigh") == 0 else {
      throw refuse("its driver has agreed to other features than in the template")
    }
  }

  private mutating func patchQueues() throws(QEMUStreamError) {
    let saved = saved.hostTree.elements("queues").filter { $0.number("size") != 0 }
    let queues = try device.queues
    guard saved.count == queues.count else {
      throw refuse("it has \(saved.count) queues, and \(queues.count) in the template")
    }
    let parked = device.parkedHeads
    var moved: [VirtioSection.Queue] = []
    for (ours, queue) in zip(saved, queues) {
      guard ours.number("index") == UInt64(queue.index), ours.number("size") == queue.size,
        ours.number("descriptorTable") == queue.descriptors, ours.number("availableRing") == queue.available,
        ours.number("usedRing") == queue.used, let next = ours.number("nextAvailable")
      else { throw refuse("its driver has set the queue \(queue.index) up anew since the template") }
      var exported = UInt16(truncatingIfNeeded: next)
      if isHeld(queue, exported) { exported &+= 1 }
      if exported != queue.lastAvailable || parked[queue.index] != nil {
        moved.append(queue)
      }
      try set("queues[\(queue.index)].lastAvailable", UInt64(exported))
    }
    try notify(moved)
  }

  /// Whether QEMU would have taken the buffer that comes next and kept it, as it does with that of a balloon's statistics: it
  /// reads it again as it goes on.
  private func isHeld(_ queue: VirtioSection.Queue, _ next: UInt16) -> Bool {
    let features = Features(low: device.features, high: 0)
    guard device.model == .balloon,
      BalloonQueues(features: features, numbering: .consecutive).index(of: .statistics) == queue.index,
      let place = GuestAddress(queue.available).advanced(by: 2),
      let available = try? memory.read(UInt16.self, at: place)
    else { return false }
    return available != next
  }

  /// Has the guest interrupted as it goes on, which only MSI-X can bring about: it alone says in the device's own section
  /// where interrupts go.
  private mutating func notify(_ moved: [VirtioSection.Queue]) throws(QEMUStreamError) {
    guard options.notifiesDrivers, let first = moved.first else { return }
    guard var pending = device.bytes("msix.pending"), let table = device.bytes("msix.table"),
      let config = device.bytes("pci.config"), case let capabilities = PCICapabilities(config, at: 0),
      capabilities.isMSIXEnabled
    else {
      throw refuse("the driver is not told of what it got in the queue \(first.index), and without MSI-X cannot be")
    }
    for vector in Set(moved.compactMap(\.vector)).sorted() where (Int(vector) + 1) * 16 <= table.count {
      let entry = Int(vector) * 16
      guard capabilities.isMSIXMasked || table[entry + 12] & 1 != 0 else {
        messages.append(
          InterruptMessage(
            address: table.littleEndian64(at: entry) ?? 0,
            data: UInt32(truncatingIfNeeded: table.littleEndian64(at: entry + 8) ?? 0)))
        continue
      }
      // QEMU sends it when the driver takes the mask away.
      pending[Int(vector) / 8] |= 1 << (vector % 8)
    }
    try set("msix.pending", pending)
  }

  // MARK: - Block

  private mutating func patchBlock() throws(QEMUStreamError) {
    let state = saved.modelTree
    if state.bool("flushFailed") { throw refuse("a flush has failed") }
    if let capacity = device.config?.littleEndian64(at: 0), capacity != state.number("capacitySectors") {
      throw refuse("its capacity is not that of the template")
    }
    guard state.bool("writeback") == device.writeback else {
      throw refuse("its driver has chosen when writes are stable, which QEMU does not keep in a stream")
    }
    guard device.model == .block, device.field("requests[0].head") != nil else { return }
    // They have been answered.
    let first = try range("requests[0].follows").lowerBound
    guard
      let last = device.section.fields.last(where: { $0.name.hasPrefix("requests[") && $0.name.hasSuffix("].follows") })
    else { return }
    set(first..<Int(last.offset - device.section.bodyOffset), [])
  }

  // MARK: - Balloon

  private mutating func patchBalloon() throws(QEMUStreamError) {
    let state = saved.modelTree
    guard state.number("hintPhase") == 0 else { throw refuse("its driver is telling of free pages") }
    let target = state.number("targetPages") ?? 0
    let actual = state.number("actualPages") ?? 0
    try set("targetPages", target)
    try set("actualPages", actual)
    for (place, value) in [(0, target), (4, actual)] {
      try setConfig((0..<4).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }, at: place)
    }
    if state.number("poisonValue") != device.number("poisonValue") ?? 0 {
      try set("poisonValue", state.number("poisonValue") ?? 0)
    }
  }
}
