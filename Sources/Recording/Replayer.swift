import DeviceState
import GuestRAM
import LinuxIO
import VirtioCore
import Virtqueue

/// Calls a device as one was called that was recorded, in memory of its own, and compares what it does.
///
/// The recording may come from anywhere: no call is made that a host would not make.
struct Replayer<Model: RecordableDevice & ~Copyable>: ~Copyable {
  private let recording: Recording
  private let outside: ReplayedOutside
  private let memoryLimit: Int
  private var model: Model
  private var stage: ModelStage
  private var queues: QueueSet?
  private var features: Features = []
  private var isStarted = false
  private var isBroken = false
  /// The place of the step that is being taken.
  private var place = 0

  /// - Parameters:
  ///   - outside: what the model was made with in place of what it asks.
  ///   - memoryLimit: how many bytes of guest memory may be used.
  ///   - model: freshly made.
  init(_ recording: Recording, _ outside: ReplayedOutside, memoryLimit: Int, _ model: consuming Model) {
    self.memoryLimit = memoryLimit
    stage = ModelStage(queueCount: model.queueSizes.count)
    self.recording = recording
    self.outside = outside
    self.model = model
  }

  /// Plays the recording to its end, or to the first difference.
  mutating func run() throws(RecordingError) -> ReplayResult {
    for step in 0..<recording.stepCount {
      place = recording.place(of: step)
      let call = try recording.call(of: step)
      let expected = try recording.outcome(of: step)
      guard let found = try discrepancy(call, expected) else { continue }
      let difference = ReplayDifference(
        step: step + 1, place: place, call: call.call.description, queue: found.queue, expected: found.expected,
        found: found.found)
      return ReplayResult(stepCount: step, difference: difference)
    }
    return ReplayResult(stepCount: recording.stepCount, difference: nil)
  }

  private mutating func discrepancy(
    _ call: TapeCall, _ expected: TapeOutcome
  ) throws(RecordingError) -> Discrepancy? {
    if let difference = try notificationDiscrepancy(call.notifications) { return difference }
    outside.expect(expected.exchanges)
    if let missing = missingFeatures(call.call) { return missing }
    var outcome = try call.call.hasQueues ? serve(call, expected.patches) : perform(call.call)
    outcome.config = stage.takeConfig(model.config)
    return outside.discrepancy ?? expected.outcome.discrepancy(to: outcome)
  }

  /// What the driver is told of the calls before, for what it had wished when that was decided.
  private mutating func notificationDiscrepancy(
    _ notifications: [QueueNotification]
  ) throws(RecordingError) -> Discrepancy? {
    for notification in notifications {
      let index = Int(notification.index)
      guard queues?.configuration(of: index) != nil else { throw illegal("a notification of queue \(index), not open") }
      let isDue: Bool
      do throws(GuestMemoryError) {
        isDue = try queues?.decideAgain(index, notification.decision) ?? false
      } catch {
        throw illegal("\(error)")
      }
      guard isDue != notification.decision.isDue else { continue }
      return Discrepancy(queue: index, expected: Self.words(told: !isDue), found: Self.words(told: isDue))
    }
    return nil
  }

  private static func words(told isDue: Bool) -> String {
    "before it, the driver is \(isDue ? "" : "not ")notified of used buffers"
  }

  private func illegal(_ reason: String) -> RecordingError { .illegalStep(at: place, reason) }
}

/// Calls without queues.
extension Replayer where Model: ~Copyable {
  private mutating func perform(_ call: ModelCall) throws(RecordingError) -> Outcome {
    stage.follow(call)
    var outcome = Outcome()
    switch call.kind {
    case .start: try start(with: call.features)
    case .setRunning: model.setRunning(call.number != 0)
    case .writeConfig: try writeConfig(call)
    case .resetQueue: try resetQueue(Int(call.number))
    case .reset: reset()
    case .adopt: outcome.failure = try adopt(call)
    default: try obey(call.act)
    }
    return outcome
  }

  /// What the driver agreed to and could not agree to now.
  private func missingFeatures(_ call: ModelCall) -> Discrepancy? {
    let offered = model.offeredFeatures.union(DeviceHost<Model>.defaultRingFeatures)
    guard call.kind == .start, !call.features.isSubset(of: offered) else { return nil }
    return Discrepancy(expected: "offers \(call.features)", found: "offers \(offered)")
  }

  private mutating func start(with features: Features) throws(RecordingError) {
    guard !isStarted else { throw illegal("the device is started already") }
    self.features = features
    isStarted = true
    model.start(with: features)
  }

  private mutating func writeConfig(_ call: ModelCall) throws(RecordingError) {
    let size = model.config.count
    guard Int(call.number) <= size, call.content.count <= size - Int(call.number) else {
      throw illegal("\(call.content.count) bytes at \(call.number) of a configuration space of \(size)")
    }
    model.writeConfig(call.content[...], at: Int(call.number))
  }

  private mutating func resetQueue(_ index: Int) throws(RecordingError) {
    guard index < model.queueSizes.count else { throw illegal("a reset of queue \(index)") }
    queues?.close(index)
    model.resetQueue(index)
  }

  private mutating func reset() {
    for index in 0..<(queues?.count ?? 0) { queues?.close(index) }
    features = []
    isStarted = false
    isBroken = false
    model.reset()
  }

  private mutating func adopt(_ call: ModelCall) throws(RecordingError) -> String {
    let state: Model.State
    do throws(StateError) {
      state = try Model.State(decoding: call.content, version: Int(call.number))
    } catch {
      throw illegal("\(error)")
    }
    do throws(StateError) {
      try model.adopt(state)
      return ""
    } catch {
      return "\(error)"
    }
  }

  private mutating func obey(_ order: Act?) throws(RecordingError) {
    guard let order, model.obey(order) else { throw illegal("an order that this device does not know") }
  }
}

/// Calls in which the model has its queues.
extension Replayer where Model: ~Copyable {
  private mutating func serve(_ call: TapeCall, _ late: [Patch]) throws(RecordingError) -> Outcome {
    guard isStarted, !isBroken else { throw illegal("the device is not started, or broken") }
    if !call.memory.isEmpty { try attach(call.memory) }
    guard var queues = queues.take() else { throw illegal("a call before there is any memory") }
    do throws(RecordingError) {
      let outcome = try serve(call, late, &queues)
      self.queues = consume queues
      return outcome
    } catch {
      throw error
    }
  }

  private mutating func serve(
    _ call: TapeCall, _ late: [Patch], _ queues: inout QueueSet
  ) throws(RecordingError) -> Outcome {
    try apply(call.patches + late, queues.memory)
    for place in call.queues { try apply(place, &queues) }
    guard call.call.kind != .serve || queues.isRunning(Int(call.call.number)) else {
      throw illegal("a kick of queue \(call.call.number), which does not run")
    }
    _ = try stage.look(at: queues, before: call.call)
    var outcome = Outcome()
    do throws(VirtqueueError) {
      try perform(call.call, &queues, &outcome)
    } catch {
      isBroken = true
      outcome.failure = "\(error)"
    }
    outcome.queues = stage.takeOutcomes(of: queues)
    queues.publish()
    try checkRoom(queues.memory)
    return outcome
  }

  private mutating func perform(
    _ call: ModelCall, _ queues: inout QueueSet, _ outcome: inout Outcome
  ) throws(VirtqueueError) {
    switch call.kind {
    case .wake: try model.wake(&queues)
    case .poll: outcome.hasFound = try model.poll(&queues)
    default: try model.serve(Int(call.number), of: &queues)
    }
  }

  private mutating func attach(_ places: [MemoryPlace]) throws(RecordingError) {
    do throws(GuestMemoryError) {
      var regions: [MemoryRegion] = []
      for place in places.prefix(GuestMemory.mostRegions + 1) {
        regions.append(try MemoryRegion(memoryFile: place.byteCount, start: GuestAddress(place.start)))
      }
      let memory = try GuestMemory(regions: regions)
      queues = QueueSet(count: model.queueSizes.count, in: memory)
    } catch {
      throw illegal("\(error)")
    }
  }

  /// A few bytes of a recording can stand for many of memory, and for whole pages.
  private func checkRoom(_ memory: GuestMemory) throws(RecordingError) {
    var byteCount = 0
    do throws(LinuxError) {
      for region in memory.regions { byteCount += try region.duplicateFile()?.status.allocatedByteCount ?? 0 }
    } catch {
      throw .system(error)
    }
    guard byteCount <= memoryLimit else {
      throw .tooMuch("bytes of guest memory that a device has touched", count: byteCount, limit: memoryLimit)
    }
  }

  private func apply(_ patches: [Patch], _ memory: GuestMemory) throws(RecordingError) {
    do throws(GuestMemoryError) {
      for patch in patches { try memory.write(bytes: patch.bytes, at: patch.address) }
    } catch {
      throw illegal("\(error)")
    }
  }

  private func apply(_ place: QueuePlace, _ queues: inout QueueSet) throws(RecordingError) {
    let index = Int(place.index)
    let sizes = model.queueSizes
    guard sizes.indices.contains(index) else { throw illegal("queue \(index) of a device that has \(sizes.count)") }
    if place.isNew || !place.isOpen {
      guard queues.inFlightCount(of: index) == 0 else {
        throw illegal("queue \(index) stops, and has chains in flight")
      }
      queues.close(index)
    }
    if place.isNew { try open(place, sizes[index], &queues) }
    guard place.isOpen == (queues.configuration(of: index) != nil) else { throw illegal("queue \(index) is not open") }
    queues.setEnabled(index, place.isEnabled)
  }

  private func open(_ place: QueuePlace, _ most: UInt16, _ queues: inout QueueSet) throws(RecordingError) {
    guard place.size <= most else {
      throw illegal("queue \(place.index) of \(place.size), where the device has at most \(most)")
    }
    do throws(VirtqueueError) {
      do throws(GuestMemoryError) {
        try queues.memory.write(place.nextUsed, at: GuestAddress(place.usedRing.rawValue &+ 2))
      } catch {
        throw .memory(error)
      }
      try queues.open(Int(place.index), place.configuration, features)
    } catch {
      throw illegal("\(error)")
    }
  }
}
