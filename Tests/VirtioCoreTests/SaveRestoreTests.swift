import DeviceState
import GuestRAM
import Support
import Testing
import VirtioCore
import Virtqueue

@Suite("Saving and restoring a device")
struct SaveRestoreTests {
  /// A device that has answered a request and is paused.
  private func pausedBench(_ features: Features = [.version1, EchoDevice.inverting]) throws -> DeviceBench<EchoDevice> {
    var bench = try DeviceBench(EchoDevice(), index: 0xFFFF)
    try bench.start(features)
    try bench.host.writeConfig([1, 2], at: 4)
    bench.host.update { $0.operatorNumber = 1 }
    try bench.send([1])
    bench.host.kick(0)
    bench.host.pause()
    return bench
  }

  @Test("It goes on elsewhere over a copy of the memory, and serves what was kicked while it was paused")
  func elsewhere() throws {
    var source = try pausedBench()
    let answer = try source.send([7], slot: 1)
    source.host.kick(0)
    var snapshot = try source.save()
    var target = try source.moved(to: EchoDevice())
    try target.host.attach(target.memory)
    try target.host.restore(from: &snapshot)

    #expect(snapshot.sections == [])
    #expect(target.host.isPaused == true)
    #expect(target.host.status == source.host.status)
    #expect(target.host.features == [.version1, EchoDevice.inverting])
    #expect(target.host.configGeneration == 1)
    #expect(target.host.readConfig(at: 4, byteCount: 2) == [1, 2])
    #expect(
      target.host.device.calls
        == [.reset, .start([.version1, EchoDevice.inverting]), .resetQueue(0), .resetQueue(1), .adopt])
    #expect(try target.save() == source.save())

    #expect(try target.rings[0].publishedUsedIndex == 0)
    target.host.resume()
    #expect(try target.memory.read(UInt8.self, at: answer) == ~7)
    #expect(try target.rings[0].publishedUsedIndex == 1)
    #expect(try source.rings[0].publishedUsedIndex == 0)
    // Nobody knows what the source told the driver, so the driver is told of every queue.
    #expect(target.notifications.take() == [.queue(0), .queue(1)])
  }

  @Test("A saved device goes on as if nothing had been saved")
  func goesOn() throws {
    var source = try pausedBench()
    _ = try source.save()
    source.notifications.all = []
    try source.send([1], slot: 1)
    source.host.resume()
    #expect(try source.rings[0].publishedUsedIndex == 1)
    #expect(source.notifications.take() == [.queue(0)])
  }

  @Test("Only a paused device without chains in flight is saved, and a refusal leaves the snapshot as it was")
  func tooEarly() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start()
    var snapshot = Snapshot()
    #expect(refusal { () throws(HostError) in try bench.host.save(into: &snapshot) } == .notPaused)
    try bench.send([1], to: 1)
    bench.host.kick(1)
    bench.host.pause()
    #expect(
      refusal { () throws(HostError) in try bench.host.save(into: &snapshot) } == .chainsInFlight(queue: 1, count: 1))
    #expect(snapshot.sections == [])
    bench.host.wake()
    try bench.host.save(into: &snapshot)
  }

  @Test("Every step of the driver is saved and continued", arguments: 0..<5)
  func steps(step: Int) throws {
    var source = try DeviceBench(EchoDevice())
    source.host.writeFeatures([.version1, EchoDevice.distant])
    for status in StatusTests.steps[...step] where !status.isEmpty { try source.host.writeStatus(status) }
    source.host.pause()
    var snapshot = try source.save()
    var target = try source.moved(to: EchoDevice())
    try target.host.restore(from: &snapshot)
    #expect(target.host.status == StatusTests.steps[step])
    target.host.resume()
    let all = StatusTests.steps[4]
    try target.host.writeStatus(all)
    #expect(target.host.features == [.version1, EchoDevice.distant])
    #expect(target.host.device.calls.filter { $0 == .start([.version1, EchoDevice.distant]) }.count == 1)
  }

  @Test("A queue's enabled state is saved, be the queue running, stopped or not set up")
  func enabled() throws {
    var source = try DeviceBench(EchoDevice())
    try source.startWithoutStatus()
    try source.host.setEnabled(0, false)
    _ = try source.host.stopQueue(1)
    source.host.pause()
    var snapshot = try source.save()
    var target = try source.moved(to: EchoDevice())
    try target.host.attach(target.memory)
    try target.host.restore(from: &snapshot)
    #expect([0, 1].map { target.host.isRunning($0) } == [true, false])
    #expect(try target.save() == source.save())
    try target.send([1])
    target.host.resume()
    #expect(try target.rings[0].publishedUsedIndex == 0)
    try target.host.setEnabled(0, true)
    #expect(try target.rings[0].publishedUsedIndex == 1)

    var early = try DeviceBench(EchoDevice())
    try early.host.setEnabled(1, false)
    early.host.pause()
    var second = try early.save()
    var late = try early.moved(to: EchoDevice())
    try late.host.restore(from: &second)
    late.host.resume()
    try late.startWithoutStatus()
    try late.send([1], to: 1)
    late.host.kick(1)
    #expect(late.host.hasChainsInFlight == false)
  }

  @Test("2.1.2: a broken device can be moved, is still broken there, and recovers by a reset")
  func broken() throws {
    var source = try DeviceBench(EchoDevice())
    try source.start()
    try source.rings[0].send([.readable(.max - 8, 4)])
    source.host.kick(0)
    source.host.pause()
    var snapshot = try source.save()
    var target = try source.moved(to: EchoDevice())
    try target.host.attach(target.memory)
    try target.host.restore(from: &snapshot)
    #expect(target.host.isBroken == true)
    #expect(target.host.status == source.host.status)
    #expect(try target.save() == source.save())
    #expect(target.host.resume() == false)
    #expect(target.host.kick(0) == false)
    #expect(target.host.device.calls.contains(.serve(0)) == false)
    try target.host.writeStatus([])
    #expect(target.host.isBroken == false)
  }

  @Test("Devices of several kinds share a snapshot; an instance tells those of one kind apart")
  func several() throws {
    var echo = try pausedBench()
    var other = try DeviceBench(SilentDevice<SilentState>())
    other.host.pause()
    var snapshot = Snapshot()
    try echo.host.save(into: &snapshot)
    try echo.host.save(into: &snapshot, instance: "second")
    try other.host.save(into: &snapshot)
    #expect(snapshot.sections.count == 6)
    try other.host.restore(from: &snapshot)
    var target = try echo.moved(to: EchoDevice())
    try target.host.attach(target.memory)
    try target.host.restore(from: &snapshot, instance: "second")
    try echo.host.restore(from: &snapshot)
    #expect(snapshot.sections == [])
  }
}

/// A device that does nothing, of another kind than `EchoDevice`; it may have that one's state.
struct SilentDevice<State: SavedState>: VirtioDevice {
  static var id: DeviceID { .network }
  var offeredFeatures: Features { [] }
  var queueSizes: [UInt16] { [] }
  var config: [UInt8] { [] }
  var state = State()

  mutating func start(with features: Features) {}
  mutating func serve(_ index: Int, of queues: inout QueueSet) throws(VirtqueueError) {}
  mutating func reset() { state = State() }
  mutating func adopt(_ state: State) throws(StateError) { self.state = state }
}

struct SilentState: SavedState {
  static var section: String { "silent" }
  static var version: Int { 1 }
  mutating func code(with coder: inout some StateCoder) throws(StateError) {}
}
