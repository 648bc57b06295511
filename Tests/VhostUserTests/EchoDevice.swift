import DeviceState
import VirtioCore
import Virtqueue

/// The smallest device that has everything: it answers each chain with its bytes plus one.
struct EchoDevice: VirtioDevice {
  struct State: SavedState {
    static let section = "echo"
    static let version = 1
    var echoed: UInt64 = 0

    mutating func code(with coder: inout some StateCoder) throws(StateError) {
      try coder.field("echoed", &echoed)
    }
  }

  static var id: DeviceID { .block }
  var offeredFeatures: Features { Features(low: 0b11) }
  var queueSizes: [UInt16] { [256, 256] }
  var config: [UInt8] = Array(0..<16)
  var state = State()
  var startCount = 0
  var resetCount = 0
  var features: Features = []

  mutating func writeConfig(_ bytes: ArraySlice<UInt8>, at offset: Int) {
    config.replaceSubrange(offset..<offset + bytes.count, with: bytes)
  }

  mutating func start(with features: Features) {
    startCount += 1
    self.features = features
  }

  mutating func serve(_ index: Int, of queues: inout QueueSet) throws(VirtqueueError) {
    while var chain = try queues[index].next() {
      var bytes: [UInt8] = []
      while let byte = try chain.read(UInt8.self) { bytes.append(byte) }
      for byte in bytes { _ = try chain.write(byte &+ 1) }
      state.echoed += UInt64(bytes.count)
      queues[index].complete(chain)
    }
  }

  mutating func reset() {
    resetCount += 1
    state = State()
  }

  mutating func adopt(_ state: State) throws(StateError) {
    self.state = state
  }
}
