import DeviceState
import GuestRAM
import Virtqueue

/// What a host keeps of any device, beside the model's own state.
struct HostState: SavedState {
  static let section = "host"
  static let version = 1

  var device: UInt32 = 0
  var status: UInt8 = 0
  var featuresLow: UInt64 = 0
  var featuresHigh: UInt64 = 0
  var configGeneration: UInt32 = 0
  var isStarted = false
  var queues: [QueueState] = []

  mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("device", &device)
    try coder.field("status", &status)
    try coder.field("featuresLow", &featuresLow)
    try coder.field("featuresHigh", &featuresHigh)
    try coder.field("configGeneration", &configGeneration)
    try coder.field("isStarted", &isStarted)
    try coder.field("queues", &queues)
  }
}

/// One virtqueue: what the driver said of it and how far the device has come.
struct QueueState: StateRecord {
  var index: UInt16 = 0
  var isRunning = false
  var isEnabled = true
  var size: UInt16 = 0
  var descriptorTable: UInt64 = 0
  var availableRing: UInt64 = 0
  var usedRing: UInt64 = 0
  var nextAvailable: UInt16 = 0
  var nextUsed: UInt16 = 0

  mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("index", &index)
    try coder.field("isRunning", &isRunning)
    try coder.field("isEnabled", &isEnabled)
    try coder.field("size", &size)
    try coder.field("descriptorTable", &descriptorTable)
    try coder.field("availableRing", &availableRing)
    try coder.field("usedRing", &usedRing)
    try coder.field("nextAvailable", &nextAvailable)
    try coder.field("nextUsed", &nextUsed)
  }

  var configuration: QueueConfiguration {
    QueueConfiguration(
      size: size, descriptorTable: GuestAddress(descriptorTable), availableRing: GuestAddress(availableRing),
      usedRing: GuestAddress(usedRing), nextAvailable: nextAvailable)
  }
}
