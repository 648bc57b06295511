import DeviceState
import Foundation
import GuestRAM
import Support
import Testing
import VirtioCore

/// A device at some moment, saved in a file of this folder: how it comes there, and what a driver finds that goes on.
struct Moment: Sendable, CustomTestStringConvertible {
  let name: String
  /// Brings a device there and saves it; nil for what a real driver did.
  let take: (@Sendable () throws -> Snapshot)?
  /// Restores the device and goes on as its driver.
  let goOn: @Sendable (Snapshot) throws -> Void
  /// Restores it in a new device and throws what that says. A device that refuses must be as it was.
  let restore: @Sendable (Snapshot) throws -> Void

  var testDescription: String { name }

  static let all = BlockMoments.all + NetMoments.all + BalloonMoments.all

  /// The folder in the source tree, where fixtures are written.
  private static var folder: URL { URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures") }

  var file: URL { Self.folder.appending(path: "\(name).state") }

  var bytes: [UInt8] {
    get throws { Array(try Data(contentsOf: file)) }
  }

  static var files: [URL] {
    get throws {
      try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
        .filter { $0.pathExtension == "state" }
    }
  }
}

/// A device restored from a fixture, with the driver of each of its rings.
struct Resumed<Device: VirtioDevice & ~Copyable>: ~Copyable {
  var host: DeviceHost<Device>
  let memory: GuestMemory
  let state: HostState<Device.State>
  /// By queue; only those that run.
  var rings: [Int: RingFixture]

  /// The device is still paused.
  init(_ device: consuming Device, from snapshot: Snapshot) throws {
    let memory = try snapshot.read(MemoryImage.self).makeMemory()
    let state = try snapshot.read(HostState<Device.State>.self)
    var rings: [Int: RingFixture] = [:]
    for queue in state.queues where queue.isRunning {
      rings[Int(queue.index)] = try RingFixture(resuming: queue, memory: memory)
    }
    var host = DeviceHost(device) { _ in }
    var left = snapshot
    try host.attach(memory)
    try host.restore(from: &left)
    try left.checkAllTaken()
    self.memory = memory
    self.state = state
    self.rings = rings
    self.host = host
  }

  /// Room in memory that the rings do not use: the last pages.
  var scratch: UInt64 {
    let last = memory.regions[memory.regions.count - 1].range
    return last.start.rawValue + last.byteCount - 0x4000
  }

  func bytes(_ buffers: some Sequence<RingFixture.Buffer>) throws -> [UInt8] {
    try buffers.flatMap { try memory.readBytes(Int($0.byteCount), at: $0.address) }
  }

  /// The number of buffers that the device has given back in all, by its own index.
  func usedCount(_ queue: Int) throws -> UInt16 {
    guard let ring = rings[queue] else { return 0 }
    return try ring.publishedUsedIndex &- ring.usedIndex
  }
}

/// Restores in a new device; one that refuses must be as before.
func restore<Device: VirtioDevice & ~Copyable>(_ device: consuming Device, from snapshot: Snapshot) throws {
  let memory = try snapshot.read(MemoryImage.self).makeMemory()
  var host = DeviceHost(device) { _ in }
  try host.attach(memory)
  let (before, config) = (host.device.state, host.device.config)
  var left = snapshot
  do {
    try host.restore(from: &left)
    try left.checkAllTaken()
  } catch let error as HostError {
    #expect(host.device.state == before && host.device.config == config, "a refused state left something behind")
    #expect(host.status == [] && host.features.isEmpty && left == snapshot)
    throw error
  }
}

extension DeviceBench where Device: ~Copyable {
  /// Saves the device, paused, with the memory that its rings need.
  func image() throws -> Snapshot {
    var snapshot = try save()
    try host.saveMemory(into: &snapshot)
    return snapshot
  }
}

func little<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
  (0..<T.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
}

extension [UInt8] {
  func integer<T: FixedWidthInteger>(_: T.Type, at offset: Int) -> T {
    self[offset..<offset + T.bitWidth / 8].reversed().reduce(0) { $0 << 8 | T($1) }
  }
}
