import DeviceState
import GuestRAM
import LinuxIO
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
  static func all(_ shape: Shape, _ work: Work) throws -> [Contender] {
    let features = RingFeatures(indirectDescriptors: true, eventIndex: work == .reading)
    var inOrder = features
    inOrder.inOrder = true
    let log = try DirtyLog(coveringUpTo: GuestAddress(BenchmarkRing.memoryByteCount))
    return [
      try floor(shape, work, isChecking: false), try floor(shape, work, isChecking: true),
      try queue("queue", shape, work, features),
      try queue("queue, in order", shape, work, inOrder),
      try queue("queue, dirty log", shape, work, features, log: log),
      try host(shape, work),
    ]
  }

  private static func floor(_ shape: Shape, _ work: Work, isChecking: Bool) throws -> Contender {
    let image = try GuestMemory(byteCount: BenchmarkRing.memoryByteCount)
    _ = try BenchmarkRing(shape, memory: image)
    let bytes = try image.readBytes(Int(BenchmarkRing.memoryByteCount), at: GuestAddress(0))
    let file = try MemoryFile.create(name: "floor", byteCount: bytes.count)
    let memory = try Mapping(of: file, byteCount: bytes.count)
    memory.base.copyMemory(from: bytes, byteCount: bytes.count)
    let box = FloorBox(Floor(memory, size: BenchmarkRing.size))
    return Contender(name: isChecking ? "checking floor" : "bare floor") { batches in
      guard box.floor.serve(batches, work, isChecking: isChecking) else { throw BrokenRing() }
    }
  }

  private static func queue(
    _ name: String, _ shape: Shape, _ work: Work, _ features: RingFeatures, log: DirtyLog? = nil
  ) throws -> Contender {
    let memory = try GuestMemory(byteCount: BenchmarkRing.memoryByteCount).with(dirtyLog: log)
    let box = QueueBox(
      try SplitVirtqueue(configuration, features: features, memory: memory),
      try BenchmarkRing(shape, memory: memory))
    return Contender(name: name) { batches in
      switch work {
      case .reading: try read(batches, memory, &box.queue, &box.ring)
      case .walking: try walk(batches, &box.queue, &box.ring)
      }
    }
  }

  private static func host(_ shape: Shape, _ work: Work) throws -> Contender {
    let memory = try GuestMemory(byteCount: BenchmarkRing.memoryByteCount)
    // The driver wants no interrupts, so that none is counted as work.
    try memory.write(UInt16(1), at: BenchmarkRing.availableRing)
    let box = HostBox(SummingDevice(work), try BenchmarkRing(shape, memory: memory))
    var features: Features = [.version1, .indirectDescriptors]
    if work == .reading { features.insert(.eventIndex) }
    try box.host.acceptFeatures(features)
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

/// Walks along every chain and gives it back.
@inline(never)
func walk(_ queue: inout SplitVirtqueue, _ total: inout UInt64) throws(VirtqueueError) {
  // A local, as in the floors: a sum in memory would cost more than a descriptor.
  var sum = total
  defer { total = sum }
  while var chain = try queue.next() {
    while let segment = try chain.next() { sum &+= segment.address.rawValue &+ UInt64(segment.byteCount) }
    queue.complete(chain)
  }
}

/// What a device does at the least: reach every buffer and give the chain back.
@inline(never)
func read(_ queue: inout SplitVirtqueue, _ memory: GuestMemory, _ total: inout UInt64) throws(VirtqueueError) {
  var sum = total
  defer { total = sum }
  while var chain = try queue.next() {
    while let segment = try chain.next() { sum &+= UInt64(try firstWord(of: segment, memory)) }
    queue.complete(chain)
  }
}

@inline(__always)
private func firstWord(of segment: Segment, _ memory: GuestMemory) throws(VirtqueueError) -> UInt32 {
  guard segment.byteCount >= 4 else { throw .malformedRequest("no word in a buffer") }
  do throws(GuestMemoryError) { return try memory.read(UInt32.self, at: segment.address) } catch {
    throw .memory(error)
  }
}

func walk(_ batches: Int, _ queue: inout SplitVirtqueue, _ ring: inout BenchmarkRing) throws(VirtqueueError) {
  var sum: UInt64 = 0
  for _ in 0..<batches {
    ring.refill()
    try walk(&queue, &sum)
    queue.publish()
  }
}

func read(
  _ batches: Int, _ memory: GuestMemory, _ queue: inout SplitVirtqueue, _ ring: inout BenchmarkRing
) throws(VirtqueueError) {
  var sum: UInt64 = 0
  var notificationCount = 0
  for _ in 0..<batches {
    ring.refill()
    repeat {
      try read(&queue, memory, &sum)
      queue.publish()
      if queue.needsNotification() { notificationCount &+= 1 }
    } while try queue.requestKicks()
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
  var host: DeviceHost<SummingDevice>
  var ring: BenchmarkRing

  init(_ device: SummingDevice, _ ring: consuming BenchmarkRing) {
    host = DeviceHost(device) { _ in }
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
  private let work: Work
  private var sum: UInt64 = 0

  init(_ work: Work) {
    self.work = work
  }

  mutating func start(with features: Features) {}
  mutating func reset() {}
  mutating func adopt(_ state: State) throws(StateError) {}

  mutating func serve(_ index: Int, of queues: inout QueueSet) throws(VirtqueueError) {
    switch work {
    case .reading: try read(&queues[index], queues.memory, &sum)
    case .walking: try walk(&queues[index], &sum)
    }
  }
}
