public import DeviceState
public import VirtioCore
public import Virtqueue

/// A device that can be recorded and played again.
public protocol RecordableDevice: VirtioDevice, ~Copyable {
  /// Does what an operator once ordered. What comes of it shows in what the device does.
  /// - Returns: false when there is no such order.
  mutating func obey(_ order: Act) -> Bool
}

/// A device that does what its model does, and writes all of it down: each call, the guest memory that the model may read
/// in it, and what the driver sees of it.
///
/// It stands between a host and a model, so the model without it costs nothing more. What the model asks of its outside is
/// written down there: see `RecordedStore`.
public struct RecordedDevice<Model: RecordableDevice & ~Copyable>: ~Copyable, VirtioDevice {
  public static var id: DeviceID { Model.id }
  public static var featureNames: [Int: String] { Model.featureNames }

  public private(set) var model: Model
  /// Writes it down; nil for a device that is not recorded, which then does nothing but what its model does.
  public let recorder: Recorder?
  private var stage: ModelStage

  init(_ model: consuming Model, recorder: Recorder?) {
    stage = ModelStage(queueCount: model.queueSizes.count)
    self.model = model
    self.recorder = recorder
  }

  public var offeredFeatures: Features { model.offeredFeatures }
  public var queueSizes: [UInt16] { model.queueSizes }
  public var config: [UInt8] { model.config }
  public var hasWorkElsewhere: Bool { model.hasWorkElsewhere }
  public var state: Model.State { model.state }

  public func constants() -> [DeviceConstant] { model.constants() }

  public func discardsWhileDisabled(_ index: Int) -> Bool { model.discardsWhileDisabled(index) }
  public func notificationLimits(of index: Int) -> NotificationLimits? { model.notificationLimits(of: index) }
  public func awaitsBuffers(of index: Int) -> Bool { model.awaitsBuffers(of: index) }

  public mutating func writeConfig(_ bytes: ArraySlice<UInt8>, at offset: Int) {
    let call = ModelCall(kind: .writeConfig, number: UInt32(clamping: offset), content: Array(bytes))
    record(call) { $0.writeConfig(bytes, at: offset) }
  }

  public mutating func start(with features: Features) {
    record(ModelCall(kind: .start, features: features)) { $0.start(with: features) }
  }

  public mutating func setRunning(_ isRunning: Bool) {
    record(ModelCall(kind: .setRunning, number: isRunning ? 1 : 0)) { $0.setRunning(isRunning) }
  }

  public mutating func resetQueue(_ index: Int) {
    record(ModelCall(kind: .resetQueue, number: UInt32(clamping: index))) { $0.resetQueue(index) }
  }

  public mutating func reset() {
    record(ModelCall(kind: .reset)) { $0.reset() }
  }

  public mutating func adopt(_ state: Model.State) throws(StateError) {
    let call = ModelCall(kind: .adopt, number: UInt32(clamping: Model.State.version), content: try state.encoded())
    try record(call) { (model) throws(StateError) in try model.adopt(state) }
  }

  /// Lets an operator change the model in a way that can be repeated.
  public mutating func obey<Result, Failure: Error>(
    _ order: Act, _ body: (inout Model) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try record(ModelCall(kind: .order, act: order), body)
  }

  private mutating func record<Result, Failure: Error>(
    _ call: ModelCall, _ body: (inout Model) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    guard let recorder else { return try body(&model) }
    stage.follow(call)
    recorder.begin(TapeCall(call: call))
    var outcome = Outcome()
    defer {
      outcome.config = stage.takeConfig(model.config)
      recorder.end([], outcome)
    }
    do throws(Failure) {
      return try body(&model)
    } catch {
      if call.kind == .adopt { outcome.failure = "\(error)" }
      throw error
    }
  }
}

/// Calls in which the model has its queues.
extension RecordedDevice where Model: ~Copyable {
  public mutating func serve(_ index: Int, of queues: inout QueueSet) throws(VirtqueueError) {
    let call = ModelCall(kind: .serve, number: UInt32(clamping: index))
    try record(call, &queues) { (model, queues, _) throws(VirtqueueError) in try model.serve(index, of: &queues) }
  }

  public mutating func wake(_ queues: inout QueueSet) throws(VirtqueueError) {
    try record(ModelCall(kind: .wake), &queues) { (model, queues, _) throws(VirtqueueError) in try model.wake(&queues) }
  }

  public mutating func poll(_ queues: inout QueueSet) throws(VirtqueueError) -> Bool {
    var hasFound = false
    try record(ModelCall(kind: .poll), &queues) { (model, queues, outcome) throws(VirtqueueError) in
      hasFound = try model.poll(&queues)
      outcome.hasFound = hasFound
    }
    return hasFound
  }

  private mutating func record(
    _ call: ModelCall, _ queues: inout QueueSet,
    _ body: (inout Model, inout QueueSet, inout Outcome) throws(VirtqueueError) -> Void
  ) throws(VirtqueueError) {
    var outcome = Outcome()
    guard let recorder else { return try body(&model, &queues, &outcome) }
    do throws(RecordingError) {
      recorder.begin(try stage.look(at: queues, before: call))
    } catch {
      recorder.fail(error)
    }
    defer { finish(&outcome, queues, recorder) }
    do throws(VirtqueueError) {
      try body(&model, &queues, &outcome)
    } catch {
      outcome.failure = "\(error)"
      throw error
    }
  }

  private mutating func finish(_ outcome: inout Outcome, _ queues: borrowing QueueSet, _ recorder: Recorder) {
    do throws(RecordingError) {
      let late = try stage.lookAgain(at: queues)
      outcome.queues = stage.takeOutcomes(of: queues)
      outcome.config = stage.takeConfig(model.config)
      recorder.end(late, outcome)
    } catch {
      recorder.fail(error)
    }
  }
}
