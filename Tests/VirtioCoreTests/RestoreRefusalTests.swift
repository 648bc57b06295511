import DeviceState
import GuestRAM
import Support
import Testing
import Virtqueue

@testable import VirtioCore

@Suite("States that are refused")
struct RestoreRefusalTests {
  private typealias Host = HostState<EchoState>

  /// A device that has answered one request, and is paused.
  private func source() throws -> DeviceBench<EchoDevice> {
    var bench = try DeviceBench(EchoDevice())
    try bench.start([.version1, EchoDevice.inverting])
    try bench.send([1])
    bench.host.kick(0)
    bench.host.pause()
    return bench
  }

  /// Restores a snapshot into another device; it must be refused, and the device must be as good as new then.
  private func error(
    _ snapshot: Snapshot, from source: borrowing DeviceBench<EchoDevice>,
    _ prepare: (inout DeviceBench<EchoDevice>) throws -> Void = { _ in }
  ) throws -> HostError? {
    var snapshot = snapshot
    let sections = snapshot.sections
    var target = try source.moved(to: EchoDevice())
    try prepare(&target)
    try target.host.attach(target.memory)
    let error = refusal { () throws(HostError) in try target.host.restore(from: &snapshot) }
    #expect(error?.description.isEmpty == false)
    #expect(snapshot.sections == sections)
    #expect(target.host.status == [])
    #expect(target.host.features == [])
    #expect(target.host.configGeneration == 0)
    #expect(target.host.isPaused == false)
    #expect([0, 1].map { target.host.isRunning($0) } == [false, false])
    #expect(target.host.device.calls.last == .reset)

    var fresh = try DeviceBench(EchoDevice())
    swap(&fresh.host, &target.host)
    try fresh.start()
    let answer = try fresh.send([3])
    fresh.host.kick(0)
    #expect(try fresh.memory.read(UInt8.self, at: answer) == 3)
    return error
  }

  /// The same with the host's section changed.
  private func error(changing change: (inout HostState<EchoState>) -> Void) throws -> HostError? {
    let source = try source()
    var old = try source.save()
    var host = try old.take(Host.self)
    change(&host)
    try old.add(host)
    return try error(old, from: source)
  }

  @Test("Memory in which the used index is another")
  func otherMemory() throws {
    let source = try source()
    let snapshot = try source.save()
    let near = try error(snapshot, from: source) { target in
      try target.memory.publish(2, at: target.rings[0].usedRing.offset(2))
    }
    #expect(near == .virtqueue(.usedIndexDoesNotFit(used: 2, nextAvailable: 1, size: 64)))
    let behind = try error(snapshot, from: source) { target in
      try target.memory.publish(0, at: target.rings[0].usedRing.offset(2))
    }
    #expect(behind == .memoryDoesNotFit(queue: 0, used: 0, saved: 1))
  }

  @Test("Features that are not offered here")
  func features() throws {
    let features: Features = [.version1, Feature(rawValue: 99)]
    let offered = try DeviceBench(EchoDevice()).host.offeredFeatures
    #expect(try error { $0.features = features } == .featuresNotOffered(features, offered: offered))
  }

  @Test("Another kind of device")
  func otherDevice() throws {
    #expect(try error { $0.device = 1 } == .otherDevice(1, isHere: 2))
    let source = try source()
    var snapshot = try source.save()
    var silent = DeviceHost(SilentDevice<EchoState>()) { _ in }
    #expect(
      refusal { () throws(HostError) in try silent.restore(from: &snapshot) } == .otherDevice(2, isHere: 1))
    var other = DeviceHost(SilentDevice<SilentState>()) { _ in }
    #expect(
      refusal { () throws(HostError) in try other.restore(from: &snapshot) }
        == .state(.missingSection(section: "silent-host")))
  }

  @Test("A queue that the device does not have, has twice, or has smaller")
  func queues() throws {
    #expect(try error { $0.queues[1].index = 2 } == .noSuchQueue(2, count: 2))
    #expect(try error { $0.queues[1].index = .max } == .noSuchQueue(65535, count: 2))
    #expect(try error { $0.queues[1].index = 0 } == invalid("queues", "has a queue twice"))
    #expect(try error { $0.queues[1].size = 32 } == .queueTooLarge(32, most: 16))
    #expect(try error { ($0.queues[1].size, $0.queues[1].isRunning) = (32, false) } == .queueTooLarge(32, most: 16))
    #expect(try error { $0.queues[1].size = 0 } == .virtqueue(.illegalSize(0)))
    #expect(try error { $0.queues[1].size = 6 } == .virtqueue(.illegalSize(6)))
    #expect(
      try error { $0.queues[0].descriptorTable = 1 }
        == .virtqueue(.memory(.unaligned(GuestAddress(1), multipleOf: 16))))
    #expect(try error { $0.queues[0].nextAvailable = 2 } == .memoryDoesNotFit(queue: 0, used: 1, saved: 2))
  }

  @Test("A status that no device can have", arguments: [16, 32, 4, 1 | 2 | 4, 1 | 2 | 8, 1, 64 | 32] as [UInt8])
  func status(bits: UInt8) throws {
    guard case .state(.invalidValue(section: "echo-host", _, _)) = try error(changing: { $0.status = bits }) else {
      Issue.record("status \(bits) was not refused as such")
      return
    }
  }

  @Test("FEATURES_OK without VIRTIO_F_VERSION_1")
  func legacy() throws {
    #expect(try error { $0.features = [] } == invalid("status", "is FEATURES_OK without VIRTIO_F_VERSION_1"))
  }

  @Test("A model's state that the model does not take")
  func model() throws {
    let source = try source()
    var snapshot = try source.save()
    var state = try snapshot.take(EchoState.self)
    state.driverNumber = EchoDevice.largestDriverNumber + 1
    try snapshot.add(state)
    #expect(
      try error(snapshot, from: source)
        == .state(.invalidValue(section: "echo", field: "driverNumber", reason: "is too large")))
  }

  @Test("Sections that are missing, cut off or from the future")
  func sections() throws {
    let source = try source()
    let whole = try source.save()
    #expect(try error(Snapshot(), from: source) == .state(.missingSection(section: "echo-host")))
    var half = whole
    _ = try half.take(EchoState.self)
    #expect(try error(half, from: source) == .state(.missingSection(section: "echo")))

    for section in whole.sections {
      for count in stride(from: 0, to: section.payload.count, by: 5) {
        let cut = try SnapshotSection(
          name: section.name, version: section.version, payload: Array(section.payload.prefix(count)))
        guard case .state = try error(replacing(section, with: cut, in: whole), from: source) else {
          Issue.record("\(count) bytes of \(section.name) were not refused as such")
          return
        }
      }
      let newer = try SnapshotSection(name: section.name, version: 9, payload: section.payload)
      #expect(
        try error(replacing(section, with: newer, in: whole), from: source)
          == .state(.unsupportedSectionVersion(section: section.name, version: 9, newest: 1)))
    }
  }

  @Test("A queue that runs needs guest memory")
  func noMemory() throws {
    let source = try source()
    var snapshot = try source.save()
    var target = try DeviceBench(EchoDevice())
    #expect(refusal { () throws(HostError) in try target.host.restore(from: &snapshot) } == .noMemory)
  }

  @Test("A refused restore of a paused device leaves it paused")
  func staysPaused() throws {
    var bench = try source()
    var empty = Snapshot()
    #expect(refusal { () throws(HostError) in try bench.host.restore(from: &empty) } != nil)
    #expect(bench.host.isPaused == true)
  }

  private func invalid(_ field: String, _ reason: String) -> HostError {
    .state(.invalidValue(section: "echo-host", field: field, reason: reason))
  }

  private func replacing(
    _ old: SnapshotSection, with new: SnapshotSection, in snapshot: Snapshot
  ) throws -> Snapshot {
    var result = Snapshot()
    for section in snapshot.sections { try result.add(section == old ? new : section) }
    return result
  }
}
