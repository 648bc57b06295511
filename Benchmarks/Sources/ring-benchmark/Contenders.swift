import DeviceState
import GuestRAM
import VirtioCore
import Virtqueue

/// One way to serve the ring: what it is called and how it serves a number of batches.
struct Contender {
  let name: String
  /// Makes so many batches available, one after the other, and serves each.
  ///
  /// All of them at once, so that what it takes to reach a queue or a floor in a closure's box is in nobody's figure.
  let serve: (_ batches: Int) throws -> Void
}

struct BrokenRing: Error {}

enum Contenders {
  static func all(_ shape: Shape) throws -> [Contender] {
    [
      try floor(shape, isChecking: false), try floor(shape, isChecking: true), try queue("queue", shape),
      try queue("queue, in order", shape, RingFeatures(indirectDescriptors: true, inOrder: true)),
      try queue("queue, dirty log", shape, log: DirtyLog(coveringUpTo: GuestAddress(BenchmarkRing.memoryByteCount))),
      try host(shape),
    ]
  }

  private static func floor(_ shape: Shape, isChecking: Bool) throws -> Contender {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: Int(BenchmarkRing.memoryByteCount), alignment: 4096)
    let image = try GuestMemory(byteCount: BenchmarkRing.memoryByteCount)
    _ = try BenchmarkRing(shape, memory: image)
    let bytes = try image.readBytes(Int(BenchmarkRing.memoryByteCount), at: GuestAddress(0))
    memory.copyMemory(from: bytes, byteCount: bytes.count)
    let box = FloorBox(Floor(memory: memory, size: BenchmarkRing.size))
    return Contender(name: isChecking ? "checking floor" : "bare floor") { batches in
      guard box.floor.serve(batches, isChecking: isChecking) else { throw BrokenRing() }
    }
  }

  private static func queue(
    _ name: String, _ shape: Shape, _ features: RingFeatures = RingFeatures(indirectDescriptors: true),
    log: DirtyLog? = nil
  ) throws -> Contender {
    let memory = try GuestMemory(byteCount: BenchmarkRing.memoryByteCount).with(dirtyLog: log)
    let box = QueueBox(
      try SplitVirtqueue(configuration, features: features, memory: memory),
      try BenchmarkRing(shape, memory: memory))
    return Contender(name: name) { batches in try serve(batches, &box.queue, &box.ring) }
  }

  private static func host(_ shape: Shape) throws -> Contender {
    let memory = try GuestMemory(byteCount: BenchmarkRing.memoryByteCount)
    // The driver wants no interrupts, so that none is counted as work.
    try memory.write(UInt16(1), at: BenchmarkRing.availableRing)
    let box = HostBox(try BenchmarkRing(shape, memory: memory))
    try box.host.acceptFeatures([.version1, .indirectDescriptors])
    try box.host.attach(memory)
    try box.host.startQueue(0, configuration)
    return Contender(name: "device host") { batches in
      kick(batches, &box.host, &box.ring)
      guard box.host.failure == nil else { throw BrokenRing() }
    }
  }

  private static let configuration = QueueConfiguration(
    size: BenchmarkRing.size, descriptorTable: BenchmarkRing.descriptorTable,
    availableRing: BenchmarkRing.availableRing, usedRing: BenchmarkRing.usedRing)
}

/// What a device does at the least: look at every buffer and give the chain back.
@inline(never)
func serve(_ queue: inout SplitVirtqueue, _ total: inout UInt64) throws(VirtqueueError) {
  // A local, as in the floors: a sum in memory would cost more than a descriptor.
  var sum = total
  defer { total = sum }
  while var chain = try queue.next() {
    while let segment = try chain.next() { sum &+= segment.address.rawValue &+ UInt64(segment.byteCount) }
    queue.complete(chain)
  }
}

func serve(_ batches: Int, _ queue: inout SplitVirtqueue, _ ring: inout BenchmarkRing) throws(VirtqueueError) {
  var sum: UInt64 = 0
  for _ in 0..<batches {
    ring.refill()
    try serve(&queue, &sum)
    queue.publish()
  }
}

func kick(_ batches: Int, _ host: inout DeviceHost<SummingDevice>, _ ring: inout BenchmarkRing) {
  for _ in 0..<batches {
    ring.refill()
    host.kick(0)
  }
}

final class FloorBox {
  var floor: Floor

  init(_ floor: Floor) {
    self.floor = floor
  }
}

final class QueueBox {
  var queue: SplitVirtqueue
  var ring: BenchmarkRing

  init(_ queue: consuming SplitVirtqueue, _ ring: consuming BenchmarkRing) {
    self.queue = queue
    self.ring = ring
  }
}

final class HostBox {
  var host = DeviceHost(SummingDevice()) { _ in }
  var ring: BenchmarkRing

  init(_ ring: consuming BenchmarkRing) {
    self.ring = ring
  }
}

/// The device for the host's measurement.
struct SummingDevice: VirtioDevice {
  struct State: SavedState {
    static let section = "summing"
    static let version = 1
    mutating func code(with coder: inout some StateCoder) throws(StateError) {}
  }

  static var id: DeviceID { .block }
  let offeredFeatures: Features = []
  let queueSizes = [BenchmarkRing.size]
  let config: [UInt8] = []
  let state = State()
  private var sum: UInt64 = 0

  mutating func start(with features: Features) {}
  mutating func reset() {}
  mutating func adopt(_ state: State) throws(StateError) {}

  mutating func serve(_ index: Int, of queues: inout QueueSet) throws(VirtqueueError) {
    try ring_benchmark.serve(&queues[index], &sum)
  }
}
