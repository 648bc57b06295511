import DeviceState
import Support
import Testing
import VirtioBlk
import VirtioCore
import Virtqueue

@testable import Recording

/// A disk that answers one kick without having done anything.
struct LazyDisk: ~Copyable, RecordableDevice {
  static var id: DeviceID { .block }

  var disk: BlockDevice
  /// The kick, counted from 1.
  let lazyKick: Int
  var kickCount = 0

  init(_ disk: consuming BlockDevice, lazyKick: Int) {
    self.disk = disk
    self.lazyKick = lazyKick
  }

  var offeredFeatures: Features { disk.offeredFeatures }
  var queueSizes: [UInt16] { disk.queueSizes }
  var config: [UInt8] { disk.config }
  var state: BlockState { disk.state }

  mutating func adopt(_ state: BlockState) throws(StateError) { try disk.adopt(state) }
  mutating func obey(_ order: Act) -> Bool { disk.obey(order) }
  mutating func writeConfig(_ bytes: ArraySlice<UInt8>, at offset: Int) { disk.writeConfig(bytes, at: offset) }
  mutating func start(with features: Features) { disk.start(with: features) }
  mutating func setRunning(_ isRunning: Bool) { disk.setRunning(isRunning) }
  mutating func resetQueue(_ index: Int) { disk.resetQueue(index) }
  mutating func reset() { disk.reset() }

  mutating func serve(_ index: Int, of queues: inout QueueSet) throws(VirtqueueError) {
    kickCount += 1
    guard kickCount == lazyKick else { return try disk.serve(index, of: &queues) }
    while let chain = try queues[index].next() { queues[index].complete(chain) }
  }
}

/// A store that looks for everything one sector further on.
final class ShiftedStore: BlockStore {
  private let base: any BlockStore

  init(_ base: any BlockStore) { self.base = base }

  var byteCount: UInt64 { base.byteCount }
  var isReadOnly: Bool { base.isReadOnly }
  var limits: BlockLimits { base.limits }

  func perform(_ operation: BlockOperation, _ data: inout BlockData, mayWait: Bool) throws(StoreError) -> Bool {
    switch operation {
    case .read(let place): try base.perform(.read(at: place + 512), &data, mayWait: mayWait)
    case .write(let place): try base.perform(.write(at: place + 512), &data, mayWait: mayWait)
    default: try base.perform(operation, &data, mayWait: mayWait)
    }
  }

  func setExclusive(_ isExclusive: Bool) throws(StoreError) { try base.setExclusive(isExclusive) }
}

@Suite("Recordings of disks") struct DiskRecordingTests {
  static let plain: Features = Features(low: 0xFF_FFFF)

  /// What a driver did, recorded.
  static func recording(
    _ random: SeededGenerator, actCount: Int, _ features: Features = plain, isSound: Bool = true
  ) throws -> [UInt8] {
    let tape = Tape()
    let driver = try DiskDriver(random, to: tape, features, isSound: isSound)
    for _ in 0..<actCount { try driver.act() }
    driver.finish()
    #expect(tape.failures == [])
    return tape.bytes
  }

  @Test(
    "what a driver did to a disk gives the same outputs again",
    arguments: [[], [.indirectDescriptors, .eventIndex], [.inOrder], [.inOrder, .indirectDescriptors]] as [Features])
  func replay(_ ringFeatures: Features) throws {
    let random = SeededGenerator(for: "a recorded disk")
    let file = try Self.recording(random, actCount: 200, Self.plain.union(ringFeatures))
    let result = try Recording(file).replay()
    #expect(result.difference == nil)
    #expect(result.stepCount > 100)
  }

  @Test("a driver that breaks the rules of rings is played again too, with what the device says of it")
  func brokenDriver() throws {
    let random = SeededGenerator(for: "a recorded disk of a broken driver")
    let file = try Self.recording(random, actCount: 400, Self.plain.union([.indirectDescriptors]), isSound: false)
    let result = try Recording(file).replay()
    #expect(result.difference == nil)
  }

  @Test("a device that answers one request otherwise is found, and its step and queue are named")
  func wrongDevice() throws {
    let file = try Self.recording(SeededGenerator(seed: 7), actCount: 60)
    let recording = try Recording(file)
    let kicks = try (0..<recording.stepCount).filter { step in
      guard try recording.call(of: step).call.kind == .serve else { return false }
      return try recording.outcome(of: step).outcome.queues.contains { $0.used.contains { $0.byteCount > 0 } }
    }
    let step = try #require(kicks.dropFirst(10).first)
    let number = try (0...step).filter { try recording.call(of: $0).call.kind == .serve }.count
    let result = try recording.replayDisk { LazyDisk(BlockDevice($0, $1), lazyKick: number) }
    let difference = try #require(result.difference)
    #expect(difference.step == step + 1)
    #expect(result.stepCount == step)
    #expect(difference.place == recording.place(of: step))
    #expect(difference.call.hasPrefix("kick of queue"))
  }

  @Test("a device that gives back another length is told by chain and length")
  func wrongLength() throws {
    let expected = QueueOutcome(index: 1, nextAvailable: 5, used: [UsedChain(head: 3, byteCount: 513, digest: 7)])
    let found = QueueOutcome(index: 1, nextAvailable: 5, used: [UsedChain(head: 3, byteCount: 1, digest: 7)])
    let difference = try #require(Outcome(queues: [expected]).discrepancy(to: Outcome(queues: [found])))
    #expect(difference.queue == 1)
    #expect(difference.expected.contains("chain 3 given back with 513 bytes"))
    #expect(difference.found.contains("chain 3 given back with 1 bytes"))
  }

  @Test("a device that asks its store for something else is found by what it asks")
  func wrongQuestion() throws {
    let recording = try Recording(try Self.recording(SeededGenerator(seed: 11), actCount: 60))
    let result = try recording.replayDisk { store, options in BlockDevice(ShiftedStore(store), options) }
    let difference = try #require(result.difference)
    #expect(difference.expected.hasPrefix("asks its outside: "))
    #expect(difference.found.hasPrefix("asks its outside: "))
  }

  @Test("a device that offers less than its driver took then is a difference, and not a fault of the file")
  func missingFeature() throws {
    let recording = try Recording(try Self.recording(SeededGenerator(seed: 11), actCount: 2))
    let result = try recording.replayDisk { store, options in
      var options = options
      options.flush = false
      return BlockDevice(store, options)
    }
    #expect(result.difference?.call.hasPrefix("start with") == true)
  }

  @Test("a recording is small: a request of a sector takes little more than its data")
  func size() throws {
    let file = try Self.recording(SeededGenerator(seed: 5), actCount: 200)
    let recording = try Recording(file)
    print("\(file.count) bytes for \(recording.stepCount) steps")
    #expect(file.count < 2000 * recording.stepCount)
  }

  /// The recording with every decision to notify turned round, or only with the calls counted that have some.
  private static func turned(_ file: [UInt8], _ isTurned: Bool) throws -> (file: [UInt8], count: Int) {
    var turned = TapeFrames.preamble
    var checksum = CRC32C.checksum(turned)
    var count = 0
    for frame in try TapeFrames.frames(of: file) {
      var contents = Array(file[frame.range])
      if frame.kind == .call {
        var call = try TapeReader.record(TapeCall.self, in: file, at: frame.range)
        count += call.notifications.count
        for index in call.notifications.indices where isTurned { call.notifications[index].decision.isDue.toggle() }
        contents = try TapeWriter.bytes(of: call)
      }
      TapeFrames.append(frame.kind, contents, &checksum, to: &turned)
    }
    return (turned, count)
  }

  @Test(
    "whether the driver is notified is compared, for what it had wished then",
    arguments: [[], [.eventIndex], [.inOrder]] as [Features])
  func notifications(_ ringFeatures: Features) throws {
    let random = SeededGenerator(for: "recorded notifications")
    let file = try Self.recording(random, actCount: 60, Self.plain.union(ringFeatures))
    let (same, count) = try Self.turned(file, false)
    #expect(same == file)
    #expect(count > 20)
    let difference = try #require(try Recording(Self.turned(file, true).file).replay().difference)
    #expect(difference.expected.contains("notified") && difference.expected != difference.found)
    #expect(difference.queue != nil)
  }

  @Test("a recording of the format before, which has no notifications, is still played")
  func olderFormat() throws {
    let file = try Self.recording(SeededGenerator(seed: 9), actCount: 10)
    var older = TapeFrames.preamble(of: TapeFrames.oldestFormat)
    var checksum = CRC32C.checksum(older)
    for frame in try TapeFrames.frames(of: file) {
      var contents = Array(file[frame.range])
      if frame.kind == .call {
        var call = try TapeReader.record(TapeCall.self, in: file, at: frame.range)
        call.notifications = []
        let head = try TapeWriter.bytes(of: call.call)
        // Behind the call stood what now follows the empty list.
        contents = head + (try TapeWriter.bytes(of: call)).dropFirst(head.count + 1)
      }
      TapeFrames.append(frame.kind, contents, &checksum, to: &older)
    }
    #expect(try Recording(older).replay().difference == nil)
    #expect(try Recording(try Recording.mended(older)).replay().difference == nil)
  }
}
