import GuestRAM
import LinuxIO
import Recording
import Support
import VirtioBlk
import VirtioCore

/// A store in memory that fails now and then.
final class MoodyStore: BlockStore {
  let base: FileStore
  private let left = Monitor(0)

  init(byteCount: UInt64) throws {
    base = try FileStore(inMemory: byteCount)
  }

  var byteCount: UInt64 { base.byteCount }
  var isReadOnly: Bool { false }
  var limits: BlockLimits { base.limits }

  /// Fails the next operation.
  func failOnce() { left.withLock { $0 = 1 } }

  func perform(_ operation: BlockOperation, _ data: inout BlockData, mayWait: Bool) throws(StoreError) -> Bool {
    let fails = left.withLock { left in
      defer { left = 0 }
      return left > 0
    }
    if fails { throw .system(LinuxError(call: "pread", number: 5)) }
    return try base.perform(operation, &data, mayWait: mayWait)
  }

  func resize(toByteCount byteCount: UInt64) throws(StoreError) { try base.resize(toByteCount: byteCount) }
}

/// A driver of a recorded disk that sends sound requests and others, as a seed decides.
final class DiskDriver {
  static let diskByteCount: UInt64 = 64 << 10

  var bench: DeviceBench<RecordedDevice<BlockDevice>>
  private let store: MoodyStore
  private var random: SeededGenerator
  private let features: Features
  private let isSound: Bool

  /// - Parameter isSound: whether it keeps the rules of rings.
  init(_ random: SeededGenerator, to tape: Tape, _ features: Features, isSound: Bool) throws {
    var options = BlockOptions()
    options.queueCount = 2
    store = try MoodyStore(byteCount: Self.diskByteCount)
    bench = try DeviceBench(RecordedDevice(store, options, to: tape.sink), ringSize: 16)
    self.random = random
    self.features = features
    self.isSound = isSound
    try start()
  }

  private func start() throws {
    let offered = bench.host.offeredFeatures
    try bench.start(offered.intersection(features).union([.version1]))
  }

  /// Does something, and takes what has come back.
  func act() throws {
    switch Int.random(in: 0..<32, using: &random) {
    case 0: store.failOnce()
    case 1: try bench.host.writeConfig([UInt8.random(in: 0...1, using: &random)], at: 32)
    case 2: try resize()
    case 3: try pause()
    case 4 where !isSound: try startAnew()
    default: try request()
    }
    for queue in bench.rings.indices where !bench.host.isBroken {
      _ = try bench.rings[queue].takeUsedHeads(bench.host.features)
    }
    if bench.host.isBroken { try startAnew() }
  }

  func finish() {
    bench.host.update { $0.recorder?.finish() }
  }

  private func startAnew() throws {
    try bench.host.writeStatus([])
    let memory = bench.memory
    bench.rings = try bench.rings.map {
      try RingFixture(size: $0.size, memory: memory, at: $0.descriptorTable.rawValue, indirectCapacity: 8)
    }
    try start()
  }

  private func resize() throws {
    let size = Self.diskByteCount + UInt64.random(in: 0..<8, using: &random) * 4096
    try bench.host.update { (disk) throws(StoreError) in try disk.resize(toByteCount: size) }
  }

  private func pause() throws {
    bench.host.pause()
    try request()
    bench.host.resume()
  }

  private func request() throws {
    let queue = Int.random(in: 0..<2, using: &random)
    for _ in 0..<Int.random(in: 1..<7, using: &random) {
      let shape = [RingFixture.Shape.direct, .indirect].randomElement(using: &random) ?? .direct
      let usesTable = bench.host.features.contains(.indirectDescriptors)
      try bench.rings[queue].add(try buffers(), shape: usesTable ? shape : .direct)
    }
    try bench.rings[queue].publish()
    bench.host.kick(queue)
  }

  /// A header, data, and a status, which lie anywhere for a driver that is not sound.
  private func buffers() throws -> [RingFixture.Buffer] {
    let types: [UInt32] = [0, 0, 0, 1, 1, 1, 4, 8, 10, 11, 13]
    let type = types.randomElement(using: &random) ?? 0
    let sector = random.once(in: 8) ? random.next() : UInt64.random(in: 0..<120, using: &random)
    let count = UInt32.random(in: 0..<5, using: &random) * 512
    let header = Self.bytes(type) + Self.bytes(UInt32(0)) + Self.bytes(sector)
    let segment = Self.bytes(sector) + Self.bytes(count / 512) + Self.bytes(UInt32(0))
    let data = type < 11 ? (0..<Int(count)).map { _ in UInt8.random(in: 0...3, using: &random) } : segment
    var buffers = [RingFixture.Buffer.readable(try place(header), 16)]
    switch type {
    case 1, 11, 13: buffers.append(.readable(try place(data), UInt32(data.count)))
    case 0: buffers.append(.writable(try place(data), count))
    case 8: buffers.append(.writable(try place([UInt8](repeating: 9, count: 20)), 20))
    default: break
    }
    buffers.append(.writable(try place([0xEE]), 1))
    return isSound ? buffers : try disturbed(buffers)
  }

  private func disturbed(_ buffers: [RingFixture.Buffer]) throws -> [RingFixture.Buffer] {
    guard random.once(in: 12) else { return buffers }
    var buffers = buffers
    switch Int.random(in: 0..<5, using: &random) {
    case 0: buffers.shuffle(using: &random)
    case 1: buffers[0].address = GuestAddress(random.next())
    case 2: buffers[0].byteCount = UInt32.random(in: 0...64, using: &random)
    case 3: buffers[buffers.count - 1].address = GuestAddress(UInt64.random(in: 0..<bench.heap + 512, using: &random))
    default: buffers.removeLast()
    }
    return buffers
  }

  /// Where bytes were put.
  private func place(_ bytes: [UInt8]) throws -> UInt64 {
    let room = DeviceBench<BlockDevice>.heapByteCount - 4096
    let place = bench.heap + UInt64.random(in: 0..<room, using: &random)
    try bench.memory.write(bytes: bytes, at: GuestAddress(place))
    return place
  }

  private static func bytes<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
    (0..<Number.bitWidth / 8).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
  }
}
