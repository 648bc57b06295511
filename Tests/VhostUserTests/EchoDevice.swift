import DeviceState
import VirtioCore
import Virtqueue

/// The smallest device that has everything: it answers each chain with its bytes plus one, at once or some time later.
struct EchoDevice: VirtioDevice {
  struct State: SavedState {
    static let section = "echo"
    static let version = 1
    var echoed: UInt64 = 0

    mutating func code(with coder: inout some StateCoder) throws(StateError) {
      try coder.field("echoed", &echoed)
    }
  }

  /// A chain that somebody else works on.
  final class Request {
    let queue: Int
    let bytes: [UInt8]
    fileprivate var chain: DescriptorChain?

    init(_ chain: consuming DescriptorChain, of queue: Int, _ bytes: [UInt8]) {
      self.queue = queue
      self.bytes = bytes
      self.chain = consume chain
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
  /// Whether chains are kept until `finish` and a `wake`.
  var isAsynchronous = false
  /// Whether somebody else is at what is kept, and no broken ring keeps it from that.
  var isElsewhere = false
  /// Queues whose chains are dropped while they are disabled.
  var discarding: Set<Int> = []
  /// For how long notifications are kept back.
  var limits: NotificationLimits?
  private(set) var requests: [Request] = []
  private var finishedCount = 0

  var hasWorkElsewhere: Bool { isElsewhere && !requests.isEmpty }

  func discardsWhileDisabled(_ index: Int) -> Bool { discarding.contains(index) }

  func notificationLimits(of index: Int) -> NotificationLimits? { limits }

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
      if isAsynchronous {
        requests.append(Request(chain, of: index, bytes))
      } else {
        try answer(chain, of: index, bytes, &queues)
      }
    }
  }

  /// The work on the oldest requests is done; `wake` is to answer them.
  mutating func finish(_ count: Int) {
    finishedCount += count
  }

  mutating func wake(_ queues: inout QueueSet) throws(VirtqueueError) {
    while finishedCount > 0, !requests.isEmpty {
      finishedCount -= 1
      let request = requests.removeFirst()
      guard let chain = request.chain.take() else { continue }
      try answer(chain, of: request.queue, request.bytes, &queues)
    }
  }

  private mutating func answer(
    _ chain: consuming DescriptorChain, of queue: Int, _ bytes: [UInt8], _ queues: inout QueueSet
  ) throws(VirtqueueError) {
    for byte in bytes { _ = try chain.write(byte &+ 1) }
    state.echoed += UInt64(bytes.count)
    queues[queue].complete(chain)
  }

  mutating func reset() {
    resetCount += 1
    requests = []
    finishedCount = 0
    state = State()
  }

  mutating func adopt(_ state: State) throws(StateError) {
    guard state.echoed < .max else {
      throw .invalidValue(section: State.section, field: "echoed", reason: "is too large")
    }
    self.state = state
  }
}
