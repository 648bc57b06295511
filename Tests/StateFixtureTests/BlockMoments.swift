import DeviceState
import GuestRAM
import Support
import Synchronization
import Testing
import VirtioBlk
import VirtioCore

/// A disk whose sectors are of a pattern until they are written. It may fail.
final class PatternStore: BlockStore {
  let byteCount: UInt64
  let isReadOnly = false
  let limits = BlockLimits()
  private let written = Mutex<[UInt64: [UInt8]]>([:])
  private let failing = Mutex(false)

  init(byteCount: UInt64) {
    self.byteCount = byteCount
  }

  func fail(_ isFailing: Bool) { failing.withLock { $0 = isFailing } }

  func sector(_ number: UInt64) -> [UInt8] {
    written.withLock { $0[number] } ?? (0..<512).map { UInt8(truncatingIfNeeded: number &+ $0 &* 7) }
  }

  func sectors(_ range: Range<UInt64>) -> [UInt8] { range.flatMap { sector($0) } }

  func perform(_ operation: BlockOperation, _ data: inout BlockData, mayWait: Bool) throws(StoreError) -> Bool {
    if failing.withLock({ $0 }) { throw .injected }
    switch operation {
    case .read(let place):
      try data.store(sectors(place / 512..<(place + UInt64(data.byteCount)) / 512), at: 0)
    case .write(let place):
      let bytes = try data.bytes(0..<data.byteCount)
      for (index, start) in stride(from: 0, to: bytes.count, by: 512).enumerated() {
        written.withLock { $0[place / 512 + UInt64(index)] = Array(bytes[start..<start + 512]) }
      }
    case .flush: break
    case .discard(let range), .writeZeroes(let range, _):
      for number in range.lowerBound / 512..<range.upperBound / 512 {
        written.withLock { $0[number] = [UInt8](repeating: 0, count: 512) }
      }
    }
    return true
  }
}

/// The moments of a block device.
enum BlockMoments {
  private typealias Bench = DeviceBench<BlockDevice>
  private static let sectorCount: UInt64 = 128

  static let all = made + ["blk-uml-load", "blk-qemu-load"].map { moment($0, nil) }

  private static let made: [Moment] = [
    moment("blk-started") { _ in },
    moment("blk-not-started", isStarted: false) { _ in },
    moment("blk-served") { bench in
      for number in 0..<5 { try ask(&bench, number) }
    },
    moment("blk-waiting") { bench in
      for number in 0..<7 { try ask(&bench, number) }
      bench.host.pause()
      for number in 7..<13 { try ask(&bench, number) }
    },
    moment("blk-wrapped", index: 65_533) { bench in
      for number in 0..<7 { try ask(&bench, number) }
      bench.host.pause()
      for number in 7..<12 { try ask(&bench, number) }
    },
    moment("blk-full-ring") { bench in
      bench.host.pause()
      for number in 0..<10 { try ask(&bench, number) }
    },
    moment("blk-indirect") { bench in
      try ask(&bench, 0, shape: .indirect)
      bench.host.pause()
      for number in 1..<6 { try ask(&bench, number, shape: number == 3 ? .directThenIndirect(1) : .indirect) }
    },
    moment("blk-event-index", features: [.version1, .eventIndex, .blockFlush]) { bench in
      for number in 0..<4 { try ask(&bench, number) }
      bench.host.pause()
      for number in 4..<8 { try ask(&bench, number) }
    },
    moment("blk-in-order", features: [.version1, .inOrder, .blockFlush]) { bench in
      // The driver has not taken the element that stands for all three.
      for number in 0..<3 { try ask(&bench, number, kicks: number == 2) }
      bench.host.pause()
      for number in 3..<6 { try ask(&bench, number) }
    },
    moment("blk-write-through", features: [.version1, .blockFlush, .blockConfigWriteback]) { bench in
      try bench.host.writeConfig([0], at: 32)
      for number in 0..<3 { try ask(&bench, number) }
      bench.host.pause()
      try ask(&bench, 1)
    },
    moment("blk-io-error") { bench in
      (bench.host.device.store as? PatternStore)?.fail(true)
      for number in 0..<5 { try ask(&bench, number) }
      (bench.host.device.store as? PatternStore)?.fail(false)
      bench.host.pause()
      for number in 5..<9 { try ask(&bench, number) }
    },
    moment("blk-after-reset") { bench in
      for number in 0..<5 { try ask(&bench, number) }
      try bench.host.writeStatus([])
    },
    moment("blk-broken") { bench in
      try bench.rings[1].offer(head: 999)
      try bench.rings[1].publish()
      bench.host.kick(1)
      #expect(bench.host.isBroken == true)
    },
  ]

  private static func device(byteCount: UInt64, queueSize: UInt16 = 64, queueCount: UInt16 = 2) -> BlockDevice {
    var options = BlockOptions()
    options.queueCount = queueCount
    options.queueSize = queueSize
    options.sizeMax = 1 << 20
    return BlockDevice(PatternStore(byteCount: byteCount), options)
  }

  private static func moment(
    _ name: String,
    features: Features = [.version1, .indirectDescriptors, .blockFlush, .blockMultiqueue, .blockWriteZeroes],
    index: UInt16 = 0, isStarted: Bool = true,
    _ story: @escaping @Sendable (inout DeviceBench<BlockDevice>) throws -> Void
  ) -> Moment {
    moment(name) {
      var bench = try Bench(device(byteCount: sectorCount * 512), ringSize: 32, index: index)
      if isStarted { try bench.start(features) } else { try bench.host.attach(bench.memory) }
      try story(&bench)
      bench.host.pause()
      return try bench.image()
    }
  }

  private static func moment(_ name: String, _ take: (@Sendable () throws -> Snapshot)?) -> Moment {
    Moment(name: name, take: take) { snapshot in
      try goOn(snapshot)
    } restore: { snapshot in
      try restoreDisk(snapshot)
    }
  }

  private static func restoreDisk(_ snapshot: Snapshot) throws {
    try StateFixtureTests.restore(device(for: snapshot), from: snapshot)
  }

  /// A disk like the one that was saved. What cannot be read, or is of no such disk, makes one of the usual size.
  private static func device(for snapshot: Snapshot) -> BlockDevice {
    let sectors = (try? snapshot.read(BlockState.self))?.capacitySectors ?? 0
    let host = try? snapshot.read(HostState<BlockState>.self)
    let size = host?.queues.map(\.size).filter { $0.nonzeroBitCount == 1 }.max() ?? 64
    return device(
      byteCount: sectors < 1 << 30 ? sectors * 512 : sectorCount * 512, queueSize: max(64, size))
  }

  /// Makes a request available, of a kind and at a place that its number decides.
  private static func ask(
    _ bench: inout DeviceBench<BlockDevice>, _ number: Int, shape: RingFixture.Shape = .direct, kicks: Bool = true
  ) throws {
    let room = bench.heap + UInt64(number) * 0x600
    let sector = UInt64(number * 5 % 100)
    let types: [UInt32] = [0, 1, 4, 8, 13]
    let type = types[number % types.count]
    let data: [UInt8] =
      switch type {
      case 1: (0..<512).map { UInt8(truncatingIfNeeded: number &* 31 &+ $0) }
      case 13: little(sector) + little(UInt32(2)) + little(UInt32(0))
      default: []
      }
    let answer = type == 0 ? 1024 : type == 8 ? 20 : 0
    let place = type == 0 || type == 1 ? sector : 0
    try bench.memory.write(bytes: little(type) + little(UInt32(0)) + little(place), at: GuestAddress(room))
    if !data.isEmpty { try bench.memory.write(bytes: data, at: GuestAddress(room + 16)) }
    let buffers: [RingFixture.Buffer] =
      [.readable(room, 16)] + (data.isEmpty ? [] : [.readable(room + 16, UInt32(data.count))])
      + (answer == 0 ? [] : [.writable(room + 0x100, UInt32(answer))]) + [.writable(room + 0x5FF, 1)]
    let queue = bench.host.features.contains(.blockMultiqueue) ? number % 2 : 0
    try bench.rings[queue].send(buffers, shape: shape)
    if kicks { bench.host.kick(queue) }
  }

  // MARK: - Going on

  private static func goOn(_ snapshot: Snapshot) throws {
    let model = try snapshot.read(BlockState.self)
    var resumed = try Resumed(device(for: snapshot), from: snapshot)
    let store = try #require(resumed.host.device.store as? PatternStore)
    #expect(resumed.host.device.state == model)
    let waiting = try resumed.rings.mapValues { ring in try ring.waitingHeads.map { try ring.buffers(of: $0) } }
    resumed.host.resume()
    guard !resumed.host.isBroken else {
      #expect(resumed.state.status & DeviceStatus.needsReset.rawValue != 0, "the driver broke it before it was saved")
      return
    }
    for (queue, requests) in waiting {
      #expect(try Int(resumed.usedCount(queue)) == requests.count, "queue \(queue) gives everything back")
      try checkOrder(&resumed, queue)
      for request in requests { try check(request, resumed.memory, store, model, resumed.host.features) }
    }
    let counted = try waiting.values.joined().filter { try !isIdentify($0, resumed.memory) }
    #expect(resumed.host.device.counters.total == model.counters.total + UInt64(counted.count))
    for queue in resumed.rings.keys.sorted() { try read(&resumed, queue, store) }
  }

  private static func isIdentify(_ request: [RingFixture.Buffer], _ memory: GuestMemory) throws -> Bool {
    try memory.read(UInt32.self, at: request[0].address) == 8
  }

  /// 2.7.8, 2.7.9: every head comes back, with VIRTIO_F_IN_ORDER in the order in which it was made available.
  private static func checkOrder(_ resumed: inout Resumed<BlockDevice>, _ queue: Int) throws {
    guard var ring = resumed.rings[queue] else { return }
    let expected = ring.waitingHeads
    var found: [UInt16] = []
    if resumed.host.features.contains(.inOrder) {
      while let run = try ring.takeUsedInOrder() { found += run.heads }
      #expect(found == expected)
    } else {
      found = try ring.takeAllUsed().map { UInt16($0.id) }
      #expect(found.sorted() == expected.sorted())
    }
    resumed.rings[queue] = ring
  }

  /// 5.2.6: what a driver finds in the buffers of a request that was waiting.
  private static func check(
    _ request: [RingFixture.Buffer], _ memory: GuestMemory, _ store: PatternStore, _ model: BlockState,
    _ features: Features
  ) throws {
    let readable = try request.filter { !$0.isWritable }.flatMap {
      try memory.readBytes(Int($0.byteCount), at: $0.address)
    }
    let writable = try request.filter(\.isWritable).flatMap { try memory.readBytes(Int($0.byteCount), at: $0.address) }
    let sector = readable.integer(UInt64.self, at: 8)
    let type = readable.integer(UInt32.self, at: 0)
    let answer = Array(writable.dropLast())
    let status: UInt8 =
      switch type {
      case 4 where model.flushFailed: 1
      case 13 where !features.contains(.blockWriteZeroes): 2
      default: 0
      }
    #expect(writable.last == status, "request type \(type)")
    switch type {
    case 0: #expect(answer == store.sectors(sector..<sector + UInt64(answer.count / 512)))
    case 1:
      let data = Array(readable.dropFirst(16))
      #expect(store.sectors(sector..<sector + UInt64(data.count / 512)) == data)
    case 8: #expect(answer.starts(with: "virtiokit".utf8))
    default: break
    }
  }

  /// One more request, as if nothing had been.
  private static func read(_ resumed: inout Resumed<BlockDevice>, _ queue: Int, _ store: PatternStore) throws {
    let room = resumed.scratch
    try resumed.memory.write(bytes: [UInt8](repeating: 0, count: 16), at: GuestAddress(room))
    _ = try resumed.rings[queue]?.send([.readable(room, 16), .writable(room + 16, 512), .writable(room + 528, 1)])
    resumed.host.kick(queue)
    #expect(try resumed.usedCount(queue) == 1)
    #expect(try resumed.memory.readBytes(513, at: GuestAddress(room + 16)) == store.sector(0) + [0])
  }
}

extension BlockCounters {
  fileprivate var total: UInt64 {
    reads + writes + flushes + discards + zeroWrites + failures + unsupported
  }
}
