import DeviceState
import VirtioCore

/// What import and export need of a device's fields.
extension VirtioSection {
  /// One virtqueue as the driver set it up.
  struct Queue {
    let index: Int
    let size: UInt64
    let descriptors: UInt64
    let available: UInt64
    let used: UInt64
    /// The available index of the next chain that the device takes; those before it may not be given back yet.
    let lastAvailable: UInt16
    /// The MSI-X vector, or nil.
    let vector: UInt16?
  }

  var status: UInt8 { UInt8(truncatingIfNeeded: number("status") ?? 0) }

  /// The negotiated features, all 64.
  var features: UInt64 { number("allFeatures") ?? number("features") ?? 0 }

  func has(_ feature: Feature) -> Bool {
    feature.rawValue < 64 && features >> UInt64(feature.rawValue) & 1 != 0
  }

  /// The configuration space as QEMU had it ready; nil while the driver had not read it.
  var config: [UInt8]? {
    guard let config = bytes("config"), config.contains(where: { $0 != 0 }) else { return nil }
    return config
  }

  func invalid(_ reason: String) -> QEMUStreamError { .cannotCarry(device: path, reason: reason) }

  /// The queues that the driver set up.
  var queues: [Queue] {
    get throws(QEMUStreamError) {
      var queues: [Queue] = []
      for index in 0..<Int(number("queueCount") ?? 0) {
        if let queue = try queue(index) { queues.append(queue) }
      }
      return queues
    }
  }

  private func queue(_ index: Int) throws(QEMUStreamError) -> Queue? {
    guard let descriptors = number("queues[\(index)].desc"), descriptors != 0 else { return nil }
    guard let available = number("rings[\(index)].avail"), let used = number("rings[\(index)].used"),
      let size = number("queues[\(index)].size")
    else { throw invalid("the queue \(index) has no rings") }
    let vector = number("queues[\(index)].vector").map { UInt16(truncatingIfNeeded: $0) }
    return Queue(
      index: index, size: size, descriptors: descriptors, available: available, used: used,
      lastAvailable: UInt16(truncatingIfNeeded: number("queues[\(index)].lastAvailable") ?? 0),
      vector: vector == 0xFFFF ? nil : vector)
  }

  /// The heads of the requests that wait for somebody to mend an error, by queue.
  var parkedHeads: [Int: [UInt16]] {
    var heads: [Int: [UInt16]] = [:]
    var count = 0
    while let head = number("requests[\(count)].head") {
      let queue = Int(number("requests[\(count)].queue") ?? 0)
      heads[queue, default: []].append(UInt16(truncatingIfNeeded: head))
      count += 1
    }
    return heads
  }

  /// The features that a driver keeps without anything in our device depending on it.
  ///
  /// QEMU offers `VIRTIO_BLK_F_GEOMETRY` always, of which only fields of the configuration space come.
  var carriedFeatures: UInt64 {
    model == .block || model == .vhostUserBlock ? features & ~(1 << 4) : features
  }

  /// Refuses what no device of ours can go on from, whatever its kind.
  func checkCarried() throws(QEMUStreamError) {
    let steps = DeviceStatus(rawValue: status)
    if number("broken") == 1 || steps.contains(.needsReset) { throw invalid("it is broken and needs a reset") }
    if number("disabled") == 1 { throw invalid("it is disabled") }
    guard steps.contains(.featuresOK) else {
      if !steps.contains(.driverOK), try queues.isEmpty { return }
      throw invalid("its driver is of the time before virtio 1.0")
    }
    for (bit, name) in [(33, "VIRTIO_F_ACCESS_PLATFORM"), (34, "VIRTIO_F_RING_PACKED")] where features >> bit & 1 != 0 {
      throw invalid("its driver has agreed to \(name)")
    }
    guard has(.version1) else { throw invalid("its driver has not agreed to VIRTIO_F_VERSION_1") }
  }
}
