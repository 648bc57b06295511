public import DeviceState
public import GuestRAM
import VirtioCore

/// How a stream's devices become ours.
public struct ImportOptions: Equatable, Sendable {
  /// The capacity of disks in sectors of 512 bytes, by the device's place in the machine, whatever the stream tells.
  ///
  /// Of any other disk it is what the driver was told last, which can be out of date; a disk whose driver has never asked needs
  /// to be here.
  public var capacities: [String: UInt64] = [:]

  public init() {}
}

extension QEMUStream {
  /// The virtio devices in the stream of which a model is known here, in its order.
  public var virtioDevices: [VirtioSection] { sections.compactMap(VirtioSection.init) }

  /// The saved state of devices of ours that go on where the stream's virtio-blk, virtio-net and virtio-balloon stopped: for
  /// `DeviceHost.restore`, each under its place in the machine, such as `0000:00:01.0`.
  ///
  /// Requests that QEMU had taken and not answered, after an error of its disk, become available again: their heads are put
  /// back into the available ring, which the driver does not look at. Nothing else of memory changes, and nothing at all
  /// when this throws.
  ///
  /// - Parameter memory: the stream's, as `readWithMemory` gives it.
  public func importState(
    memory: GuestMemory, options: ImportOptions = ImportOptions()
  ) throws(QEMUStreamError) -> Snapshot {
    var snapshot = Snapshot(producer: "QEMU", producerVersion: machineName)
    var returns: [ReturnedHead] = []
    for device in virtioDevices where device.model != .entropy {
      try device.checkCarried()
      let host = try HostImport(device, memory)
      let pair = try device.sections(host, options)
      try state { () throws(StateError) in
        for section in pair { try snapshot.add(section) }
      }
      returns += host.returns
    }
    guard !snapshot.sections.isEmpty else { throw .noDevice }
    for entry in returns {
      do throws(GuestMemoryError) { try memory.write(entry.head, at: entry.slot) } catch { throw .memory(error) }
    }
    return snapshot
  }
}

extension QEMUStream {
  /// The machine type, not longer than a snapshot has room for whatever the stream says.
  fileprivate var machineName: String { String(decoding: machine.utf8.prefix(80), as: UTF8.self) }
}

/// A chain that becomes available again.
struct ReturnedHead {
  let slot: GuestAddress
  let head: UInt16
}

/// What our host keeps of a device, from what QEMU keeps of it.
struct HostImport {
  private(set) var queues: [StateTree] = []
  private(set) var returns: [ReturnedHead] = []
  private let device: VirtioSection
  private let parked: [Int: [UInt16]]

  /// What stands for the host where only the model is looked at.
  static func none(_ device: VirtioSection) -> HostImport { HostImport(device) }

  private init(_ device: VirtioSection) {
    self.device = device
    parked = device.parkedHeads
  }

  init(_ device: VirtioSection, _ guest: GuestMemory) throws(QEMUStreamError) {
    self.device = device
    parked = device.parkedHeads
    let set = try device.queues
    if let stray = parked.keys.first(where: { index in !set.contains { $0.index == index } }) {
      throw device.invalid("a request waits in the queue \(stray), which its driver has not set up")
    }
    for queue in set {
      let next = try resume(queue, guest)
      queues.append(
        .record([
          .number("index", .u16, queue.index), .bool("isRunning", true), .bool("isEnabled", true),
          .number("size", .u16, queue.size), .number("descriptorTable", .u64, queue.descriptors),
          .number("availableRing", .u64, queue.available), .number("usedRing", .u64, queue.used),
          .number("nextAvailable", .u16, next),
        ]))
    }
  }

  /// The index from which the device goes on: that of the used ring, for nothing is in flight here.
  private mutating func resume(_ queue: VirtioSection.Queue, _ guest: GuestMemory) throws(QEMUStreamError) -> UInt16 {
    guard (1...32_768).contains(queue.size), queue.size.nonzeroBitCount == 1 else {
      throw device.invalid("the queue \(queue.index) has a size of \(queue.size)")
    }
    let ring = "of the queue \(queue.index)"
    let used = try index(queue.used, "used ring \(ring)", guest)
    let available = try index(queue.available, "available ring \(ring)", guest)
    let taken = queue.lastAvailable &- used
    guard UInt64(available &- queue.lastAvailable) <= queue.size, UInt64(taken) <= queue.size else {
      throw device.invalid("the indices \(ring) do not fit: \(used), \(queue.lastAvailable), \(available)")
    }
    try giveBack(queue, from: used, count: taken, guest)
    return used
  }

  private func index(_ ring: UInt64, _ what: String, _ guest: GuestMemory) throws(QEMUStreamError) -> UInt16 {
    guard let address = GuestAddress(ring).advanced(by: 2), let index = try? guest.read(UInt16.self, at: address) else {
      throw device.invalid("the \(what) is not in memory")
    }
    return index
  }

  /// Makes what QEMU had taken and not given back available again.
  private mutating func giveBack(
    _ queue: VirtioSection.Queue, from used: UInt16, count: UInt16, _ guest: GuestMemory
  ) throws(QEMUStreamError) {
    let heads = parked[queue.index] ?? []
    switch device.model {
    case .balloon:
      // To do again what a balloon's queues ask for is harmless, and the statistics are still in their buffer.
      return
    case .block:
      guard heads.count == Int(count) else {
        throw device.invalid("the queue \(queue.index) has \(count) requests in flight, and \(heads.count) are told of")
      }
    case .net, .vhostUserBlock, .entropy:
      guard count == 0 else { throw device.invalid("the queue \(queue.index) has \(count) chains in flight") }
    }
    let entries = try slots(queue, from: used, count: count, guest)
    // Nothing has overtaken them: the ring has them as they were taken.
    guard Set(entries.map(\.head)) != Set(heads) else { return }
    guard heads.allSatisfy({ UInt64($0) < queue.size }) else {
      throw device.invalid("a request of the queue \(queue.index) has a head beyond its end")
    }
    returns += zip(entries, heads).map { ReturnedHead(slot: $0.slot, head: $1) }
  }

  /// What stands in the available ring from an index on.
  private func slots(
    _ queue: VirtioSection.Queue, from start: UInt16, count: UInt16, _ guest: GuestMemory
  ) throws(QEMUStreamError) -> [ReturnedHead] {
    var entries: [ReturnedHead] = []
    for place in 0..<count {
      let slot = UInt64(start &+ place) % queue.size
      guard let address = GuestAddress(queue.available).advanced(by: 4 + 2 * slot),
        let head = try? guest.read(UInt16.self, at: address)
      else { throw device.invalid("the available ring of the queue \(queue.index) is not in memory") }
      entries.append(ReturnedHead(slot: address, head: head))
    }
    return entries
  }

  /// The section of our host, under the name of the model's.
  func section(_ model: String, _ id: DeviceID) throws(StateError) -> SnapshotSection {
    let features = StateTree.Field.number("featuresLow", .u64, device.carriedFeatures)
    let tree = StateTree.record([
      .number("device", .u32, id.rawValue), .number("status", .u8, device.status), features,
      .number("featuresHigh", .u64, 0), .number("proposedFeaturesLow", .u64, device.carriedFeatures),
      .number("proposedFeaturesHigh", .u64, 0), .number("configGeneration", .u32, 0),
      .bool("isStarted", DeviceStatus(rawValue: device.status).contains(.driverOK)),
      StateTree.Field(name: "queues", type: .array(.record), value: .array(queues)),
    ])
    return try SnapshotSection(name: model + "-host", instance: device.path, version: 1, payload: tree.payload())
  }
}
