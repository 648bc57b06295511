public import DeviceState
public import VirtioCore
public import Virtqueue

/// A small device for tests: it answers, it holds requests back, and it notes each call.
///
/// - Queue 0 answers each chain with the bytes that it was sent, as many as fit.
/// - Queue 1 keeps one chain at a time in flight, until `wake` gives it back.
/// - Its configuration space has the operator's number and the driver's, 32 bits each.
public struct EchoDevice: ~Copyable, VirtioDevice {
  public enum Call: Equatable, Sendable {
    case start(Features)
    case serve(Int)
    case wake, reset, adopt
    case resetQueue(Int)
  }

  public static let echoQueue = 0
  public static let slowQueue = 1
  /// The answer has each bit the other way round.
  public static let inverting = Feature(rawValue: 0)
  /// A feature beyond the first 64 that changes nothing.
  public static let distant = Feature(rawValue: 70)
  /// The most bytes of one chain that are looked at.
  public static let mostBytes = 4096
  /// The largest number of a driver that a state may have.
  public static let largestDriverNumber: UInt32 = 1000

  public static var id: DeviceID { .block }

  /// What was called since the device was made.
  public private(set) var calls: [Call] = []
  /// Called when the device has emptied a queue and before its host looks again, to be a driver that acts in between.
  public var afterServing: (Int) -> Void = { _ in }
  /// What `wake` makes the operator's number; nil for no change.
  public var news: UInt32?
  /// Queues whose chains are dropped while they are disabled.
  public var discarding: Set<Int> = []
  /// The configuration space's first number.
  public var operatorNumber: UInt32 = 0

  private var saved = EchoState()
  private var isInverting = false
  private var parked: DescriptorChain?

  public init(operatorNumber: UInt32 = 0) {
    self.operatorNumber = operatorNumber
  }

  public var offeredFeatures: Features { [Self.inverting, Self.distant] }

  public var queueSizes: [UInt16] { [64, 16] }

  public var config: [UInt8] {
    [operatorNumber, saved.driverNumber].flatMap { number in
      (0..<4).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
    }
  }

  public func discardsWhileDisabled(_ index: Int) -> Bool { discarding.contains(index) }

  public mutating func writeConfig(_ bytes: ArraySlice<UInt8>, at offset: Int) {
    for (place, byte) in zip(offset..., bytes) where place >= 4 {
      let shift = UInt32(8 * (place - 4))
      saved.driverNumber = saved.driverNumber & ~(0xFF << shift) | UInt32(byte) << shift
    }
  }

  public mutating func start(with features: Features) {
    calls.append(.start(features))
    isInverting = features.contains(Self.inverting)
  }

  public mutating func serve(_ index: Int, of queues: inout QueueSet) throws(VirtqueueError) {
    calls.append(.serve(index))
    if index == Self.echoQueue { try echo(&queues[index]) } else { try park(&queues) }
    afterServing(index)
  }

  public mutating func wake(_ queues: inout QueueSet) throws(VirtqueueError) {
    calls.append(.wake)
    operatorNumber = news ?? operatorNumber
    if let chain = parked.take() { queues[Self.slowQueue].complete(chain) }
    try park(&queues)
  }

  public mutating func resetQueue(_ index: Int) {
    calls.append(.resetQueue(index))
    if index == Self.slowQueue { parked = nil }
  }

  public mutating func reset() {
    calls.append(.reset)
    saved = EchoState()
    isInverting = false
    parked = nil
  }

  public var state: EchoState { saved }

  public mutating func adopt(_ state: EchoState) throws(StateError) {
    calls.append(.adopt)
    guard state.driverNumber <= Self.largestDriverNumber else {
      throw .invalidValue(section: EchoState.section, field: "driverNumber", reason: "is too large")
    }
    saved = state
  }

  private mutating func echo(_ queue: inout SplitVirtqueue) throws(VirtqueueError) {
    while var chain = try queue.next() {
      var bytes: [UInt8] = []
      while bytes.count < Self.mostBytes, let byte = try chain.read(UInt8.self) { bytes.append(byte) }
      for byte in bytes {
        guard try chain.write(isInverting ? ~byte : byte) else { break }
      }
      saved.answeredBytes &+= UInt64(chain.writtenByteCount)
      queue.complete(chain)
    }
  }

  private mutating func park(_ queues: inout QueueSet) throws(VirtqueueError) {
    guard parked == nil, queues.isRunning(Self.slowQueue) else { return }
    parked = try queues[Self.slowQueue].next()
  }
}

public struct EchoState: SavedState {
  public static var section: String { "echo" }
  public static var version: Int { 1 }

  public var answeredBytes: UInt64 = 0
  public var driverNumber: UInt32 = 0

  public init() {}

  public mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("answeredBytes", &answeredBytes)
    try coder.field("driverNumber", &driverNumber)
  }
}
