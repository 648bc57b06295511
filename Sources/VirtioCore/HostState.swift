public import DeviceState
import GuestRAM
import Virtqueue

/// What a host keeps of any device, beside the model's own state. Its section goes by the model's: a snapshot may have
/// several kinds of device.
public struct HostState<Model: SavedState>: SavedState {
  public static var section: String { Model.section + "-host" }
  public static var version: Int { 1 }

  /// The device's type (5).
  public var device: UInt32 = 0
  /// The device status field (2.1); 0 with a transport that does not show it.
  public var status: UInt8 = 0
  /// The features that driver and device agreed on.
  public var features: Features = []
  /// What the driver asked for.
  public var proposedFeatures: Features = []
  public var configGeneration: UInt32 = 0
  /// Whether the model has been started with the features.
  public var isStarted = false
  public var queues: [QueueState] = []

  public init() {}

  public mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("device", &device)
    try coder.field("status", &status)
    try coder.field("featuresLow", &features.low)
    try coder.field("featuresHigh", &features.high)
    try coder.field("proposedFeaturesLow", &proposedFeatures.low)
    try coder.field("proposedFeaturesHigh", &proposedFeatures.high)
    try coder.field("configGeneration", &configGeneration)
    try coder.field("isStarted", &isStarted)
    try coder.field("queues", &queues)
  }

  /// Refuses what no host is ever in. Whether it suits the device here, its host finds out as it adopts it.
  public func check() throws(StateError) {
    let status = DeviceStatus(rawValue: status)
    let steps = status.intersection(.steps)
    guard status.subtracting(.needsReset) == steps else { throw invalid("status", "has bits that no driver sets") }
    guard steps.contains(.featuresOK) || !steps.contains(.driverOK) else {
      throw invalid("status", "is DRIVER_OK without FEATURES_OK")
    }
    guard features.contains(.version1) || !steps.contains(.featuresOK) else {
      throw invalid("status", "is FEATURES_OK without VIRTIO_F_VERSION_1")
    }
    guard steps.isEmpty || isStarted == steps.contains(.driverOK) else {
      throw invalid("isStarted", "contradicts the status")
    }
    guard Set(queues.map(\.index)).count == queues.count else { throw invalid("queues", "has a queue twice") }
  }

  private func invalid(_ field: String, _ reason: String) -> StateError {
    .invalidValue(section: Self.section, field: field, reason: reason)
  }
}

/// One virtqueue: what the driver said of it and how far the device has come. It has no chain in flight, so the used
/// index is the available index of the next chain.
public struct QueueState: StateRecord {
  public var index: UInt16 = 0
  public var isRunning = false
  public var isEnabled = true
  /// Queue Size; 0 for a queue that the driver has not set up.
  public var size: UInt16 = 0
  /// Guest addresses, as those of the rings.
  public var descriptorTable: UInt64 = 0
  public var availableRing: UInt64 = 0
  public var usedRing: UInt64 = 0
  public var nextAvailable: UInt16 = 0

  public init() {}

  public mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("index", &index)
    try coder.field("isRunning", &isRunning)
    try coder.field("isEnabled", &isEnabled)
    try coder.field("size", &size)
    try coder.field("descriptorTable", &descriptorTable)
    try coder.field("availableRing", &availableRing)
    try coder.field("usedRing", &usedRing)
    try coder.field("nextAvailable", &nextAvailable)
  }
}

extension QueueState {
  /// - Parameter configuration: nil for a queue that the driver has not set up.
  init(index: UInt16, isRunning: Bool = false, isEnabled: Bool, _ configuration: QueueConfiguration? = nil) {
    self.index = index
    self.isRunning = isRunning
    self.isEnabled = isEnabled
    guard let configuration else { return }
    size = configuration.size
    descriptorTable = configuration.descriptorTable.rawValue
    availableRing = configuration.availableRing.rawValue
    usedRing = configuration.usedRing.rawValue
    nextAvailable = configuration.nextAvailable
  }

  /// Nil for a queue that the driver has not set up.
  var configuration: QueueConfiguration? {
    guard size != 0 else { return nil }
    return QueueConfiguration(
      size: size, descriptorTable: GuestAddress(descriptorTable), availableRing: GuestAddress(availableRing),
      usedRing: GuestAddress(usedRing), nextAvailable: nextAvailable)
  }
}
