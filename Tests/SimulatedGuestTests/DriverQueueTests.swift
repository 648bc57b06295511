import GuestRAM
import SimulatedGuest
import Support
import Testing
import Virtqueue

/// A driver's queue at 0x1000 and, from 0x100000, room for buffers.
private struct Bench {
  let memory: GuestMemory
  let queue: DriverQueue
  let options: DriverQueue.Options

  init(size: UInt16, _ options: DriverQueue.Options = DriverQueue.Options()) throws {
    self.options = options
    memory = try GuestMemory(byteCount: 8 << 20)
    queue = try DriverQueue(at: GuestAddress(0x1000), size: size, options: options, memory: memory)
    try queue.format()
  }

  func device() throws -> SplitVirtqueue {
    try SplitVirtqueue(
      QueueConfiguration(
        size: queue.size, descriptorTable: queue.descriptorTable, availableRing: queue.availableRing,
        usedRing: queue.usedRing),
      features: RingFeatures(
        indirectDescriptors: options.indirectDescriptors, eventIndex: options.eventIndex, inOrder: options.inOrder),
      memory: memory)
  }

  func buffer(_ number: UInt64, _ byteCount: Int = 64) -> GuestBuffer {
    GuestBuffer(address: GuestAddress(0x100000 + 4096 * number), byteCount: byteCount)
  }

  /// Writes a used element as a device would, or as it would not (2.7.8).
  func use(_ id: UInt32, _ byteCount: UInt32, slot: UInt64 = 0, index: UInt16 = 1) throws {
    let element = queue.usedRing.rawValue + 4 + 8 * slot
    try memory.write(id, at: GuestAddress(element))
    try memory.write(byteCount, at: GuestAddress(element + 4))
    try memory.publish(index, at: GuestAddress(queue.usedRing.rawValue + 2))
  }
}

private struct NoChain: Error {}

@Suite("DriverQueue") struct DriverQueueTests {
  private static let everyOption: [DriverQueue.Options] = (0..<8).map {
    DriverQueue.Options(eventIndex: $0 & 1 != 0, indirectDescriptors: $0 & 2 != 0, inOrder: $0 & 4 != 0)
  }

  @Test(
    "2.7: chains of every shape reach the device as they were added and come back with their tokens",
    arguments: everyOption)
  func roundTrips(options: DriverQueue.Options) throws {
    var random = SeededGenerator(for: "DriverQueue.roundTrips")
    let bench = try Bench(size: 16, options)
    var device = try bench.device()
    var sent: [(token: UInt32, readable: [GuestBuffer], writable: [GuestBuffer])] = []
    var token: UInt32 = 0
    for round in 0..<2500 {
      for _ in 0..<Int.random(in: 1...12, using: &random) {
        let readable = (0..<Int.random(in: 0...3, using: &random)).map { bench.buffer(UInt64($0), 100 + $0) }
        let writable = (0..<Int.random(in: (readable.isEmpty ? 1 : 0)...3, using: &random)).map {
          bench.buffer(UInt64(8 + $0))
        }
        let table = GuestAddress(0x80_000 + UInt64(token % 16) * 256)
        let wasAdded = try bench.queue.add(readable: readable, writable: writable, token: token, indirectTable: table)
        guard wasAdded else { break }
        sent.append((token, readable, writable))
        token += 1
      }
      _ = try bench.queue.publish()
      let keep = round % 3 == 0 ? Int.random(in: 0...2, using: &random) : 0
      let taken = max(0, sent.count - keep)
      for (_, readable, writable) in sent.prefix(taken) {
        guard var chain = try device.next() else { throw NoChain() }
        var seen: (readable: [GuestBuffer], writable: [GuestBuffer]) = ([], [])
        try chain.collect(readable: &seen.readable, writable: &seen.writable)
        try #require(seen.readable == readable && seen.writable == writable)
        chain.didWrite(UInt32(writable.reduce(0) { $0 + $1.byteCount }))
        device.complete(chain)
      }
      device.publish()
      for (token, _, writable) in sent.prefix(taken) {
        let used = try #require(try bench.queue.takeUsed())
        try #require(used.token == token)
        try #require(used.byteCount == UInt32(writable.reduce(0) { $0 + $1.byteCount }))
      }
      sent.removeFirst(taken)
      try #require(try bench.queue.takeUsed() == nil)
    }
    #expect(token > 2500)
    #expect(try bench.queue.outstandingCount() == UInt16(sent.count))
  }

  @Test("2.7.10: with event indices the driver kicks exactly when it passes the device's index")
  func eventIndex() throws {
    let bench = try Bench(size: 8, DriverQueue.Options(eventIndex: true))
    let event = GuestAddress(bench.queue.usedRing.rawValue + 4 + 8 * 8)
    try bench.memory.write(UInt16(2), at: event)
    func addOne() throws -> Bool {
      _ = try bench.queue.add(readable: [bench.buffer(0)], writable: [], token: 0)
      return try bench.queue.publish()
    }
    #expect(try (0..<5).map { _ in try addOne() } == [false, false, true, false, false])

    let batch = try Bench(size: 8, DriverQueue.Options(eventIndex: true))
    try batch.memory.write(UInt16(2), at: event)
    for _ in 0..<5 { _ = try batch.queue.add(readable: [batch.buffer(0)], writable: [], token: 0) }
    #expect(try batch.queue.publish(), "a batch may jump over the index")
    #expect(try !batch.queue.publish(), "nothing new")
  }

  @Test("2.7.10: without event indices the device's flag decides")
  func flag() throws {
    let bench = try Bench(size: 8)
    _ = try bench.queue.add(readable: [bench.buffer(0)], writable: [], token: 0)
    #expect(try bench.queue.publish())
    try bench.memory.write(UInt16(1), at: bench.queue.usedRing)
    _ = try bench.queue.add(readable: [bench.buffer(0)], writable: [], token: 0)
    #expect(try !bench.queue.publish())
  }

  @Test("2.7.7: the device interrupts only a driver that asks for it", arguments: [false, true])
  func interrupts(eventIndex: Bool) throws {
    let bench = try Bench(size: 8, DriverQueue.Options(eventIndex: eventIndex))
    var device = try bench.device()
    func serveOne() throws -> Bool {
      _ = try bench.queue.add(readable: [bench.buffer(0)], writable: [], token: 0)
      _ = try bench.queue.publish()
      guard let chain = try device.next() else { throw NoChain() }
      device.complete(chain)
      device.publish()
      return device.needsNotification()
    }
    #expect(try serveOne(), "the first answer of a device is always yes where event indices are used, or wanted")
    #expect(try bench.queue.takeUsed() != nil)
    try bench.queue.suppressInterrupts()
    #expect(try !serveOne())
    #expect(try bench.queue.requestInterrupts(), "a buffer came for which there is no interrupt")
    #expect(try bench.queue.takeUsed() != nil)
    #expect(try !bench.queue.requestInterrupts())
    #expect(try serveOne())
  }

  @Test("2.7.8: a device that breaks the used ring is found out")
  func brokenDevices() throws {
    func fault(_ breakIt: (Bench) throws -> Void) throws -> GuestError? {
      let bench = try Bench(size: 8)
      _ = try bench.queue.add(readable: [bench.buffer(0)], writable: [bench.buffer(1, 64)], token: 7)
      _ = try bench.queue.publish()
      try breakIt(bench)
      do throws(GuestError) { _ = try bench.queue.takeUsed() } catch { return error }
      return nil
    }
    #expect(try fault { try $0.use(0, 64) } == nil)
    #expect(try fault { try $0.use(8, 0) } == .device(.usedHeadOutOfRange(head: 8, size: 8)))
    #expect(try fault { try $0.use(.max, 0) } == .device(.usedHeadOutOfRange(head: .max, size: 8)))
    #expect(try fault { try $0.use(3, 0) } == .device(.usedHeadNotOutstanding(head: 3)))
    #expect(try fault { try $0.use(0, 65) } == .device(.usedTooLong(head: 0, byteCount: 65, capacity: 64)))
    #expect(
      try fault { try $0.use(0, 0, index: 2) } == .device(.usedIndexTooFarAhead(used: 2, last: 0, outstanding: 1)))
    #expect(
      try fault {
        try $0.use(0, 0)
        _ = try $0.queue.takeUsed()
        try $0.use(0, 0, slot: 1, index: 1)
      } == nil)
  }

  @Test("2.7.9: a batch that ends with a buffer which is not in it is refused")
  func brokenBatch() throws {
    let bench = try Bench(size: 8, DriverQueue.Options(inOrder: true))
    for token: UInt32 in 0..<2 { _ = try bench.queue.add(readable: [bench.buffer(0)], writable: [], token: token) }
    _ = try bench.queue.publish()
    try bench.use(5, 0, index: 2)
    #expect(try bench.queue.takeUsed()?.token == 0)
    #expect(throws: GuestError.device(.batchWithoutEnd(head: 5))) { _ = try bench.queue.takeUsed() }
  }

  @Test("A second view of the same queue goes on where the first stopped")
  func stateIsInMemory() throws {
    let bench = try Bench(size: 8, DriverQueue.Options(eventIndex: true))
    _ = try bench.queue.add(readable: [bench.buffer(0), bench.buffer(1)], writable: [], token: 5)
    _ = try bench.queue.publish()
    let other = try DriverQueue(
      at: GuestAddress(0x1000), size: 8, options: DriverQueue.Options(eventIndex: true), memory: bench.memory)
    #expect(try other.freeCount() == 6)
    try bench.use(0, 0)
    #expect(try other.takeUsed()?.token == 5)
    #expect(try bench.queue.freeCount() == 8)
  }
}
