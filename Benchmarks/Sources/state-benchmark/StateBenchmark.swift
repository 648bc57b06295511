import Balloon
import DeviceState
import Glibc
import GuestRAM
import LinuxIO
import VirtioBlk
import VirtioCore
import VirtioNet
import Virtqueue

/// How long it takes to save a device that a driver is using into bytes, and to restore another from them, and how many
/// bytes that is. Fails when a device needs 50 µs or more for both together, or 4 KiB.
@main
struct StateBenchmark {
  static let repetitions = 2000
  static let mostNanoseconds: UInt64 = 50_000
  static let mostBytes = 4096

  static func main() throws {
    print("device     save ns  restore ns  both ns  bytes")
    var isFine = try measure("balloon") { BalloonDevice(BalloonOptions(), reclaimer: NoReclaimer()) }
    isFine = try measure("block") { BlockDevice(try FileStore(inMemory: 1 << 20), BlockOptions()) } && isFine
    isFine = try measure("net") { NetDevice(card(pairs: 1), ports: [try LoopbackPort()]) } && isFine
    isFine = try measure("net x 4") { NetDevice(card(pairs: 4), ports: [try LoopbackPort()]) } && isFine
    if !isFine { exit(1) }
  }

  private static func card(pairs: Int) -> NetOptions {
    var options = NetOptions(address: EthernetAddress([2, 0, 0, 0, 0, 1], at: 0))
    options.pairCount = pairs
    return options
  }

  /// - Returns: whether the limits are kept.
  private static func measure<Device: VirtioDevice & ~Copyable>(
    _ name: String, _ make: () throws -> Device
  ) throws -> Bool {
    let memory = try GuestMemory(byteCount: 8 << 20)
    var source = try started(make(), memory)
    source.pause()
    var target = DeviceHost(try make()) { _ in }
    try target.attach(memory)
    var bytes: [UInt8] = []
    var best = (save: UInt64.max, restore: UInt64.max, both: UInt64.max)
    for _ in 0..<repetitions {
      let start = MonotonicClock.now
      var snapshot = Snapshot()
      try source.save(into: &snapshot)
      bytes = snapshot.encoded()
      let middle = MonotonicClock.now
      var arrived = try Snapshot(decoding: bytes)
      try target.restore(from: &arrived)
      let end = MonotonicClock.now
      best = (
        min(best.save, middle - start), min(best.restore, end - middle), min(best.both, end - start)
      )
    }
    print(
      pad(name, 8, isNumber: false) + pad(best.save, 10) + pad(best.restore, 12) + pad(best.both, 9)
        + pad(bytes.count, 7))
    return best.both < mostNanoseconds && bytes.count < mostBytes
  }

  /// A device whose driver has agreed on everything and started every queue.
  private static func started<Device: VirtioDevice & ~Copyable>(
    _ device: consuming Device, _ memory: GuestMemory
  ) throws -> DeviceHost<Device> {
    var host = DeviceHost(device) { _ in }
    try host.attach(memory)
    try host.acceptFeatures(host.offeredFeatures)
    for index in 0..<host.device.queueSizes.count {
      let start = UInt64(index + 1) * 0x10000
      try host.startQueue(
        index,
        QueueConfiguration(
          size: 32, descriptorTable: GuestAddress(start), availableRing: GuestAddress(start + 0x1000),
          usedRing: GuestAddress(start + 0x2000), nextAvailable: 0))
    }
    return host
  }

  private static func pad(_ value: some CustomStringConvertible, _ width: Int, isNumber: Bool = true) -> String {
    let text = value.description
    let space = String(repeating: " ", count: max(0, width - text.count))
    return isNumber ? space + text : text + space
  }
}

/// Leaves memory as it is.
struct NoReclaimer: PageReclaimer {
  func giveUp(_ range: GuestRange, of memory: GuestMemory) throws(GuestMemoryError) -> UInt64 { 0 }
  func release(_ range: GuestRange, of memory: GuestMemory) throws(GuestMemoryError) -> UInt64 { 0 }
  func takeBack(_ range: GuestRange, of memory: GuestMemory) {}
  func reset() {}
}
