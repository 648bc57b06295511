import DeviceState
import GuestRAM
import LinuxIO
import Support
import Testing
import VirtioBlk
import VirtioCore

/// A guest whose disk makes every request wait, for as long as the test likes.
private final class SlowDisk {
  /// Raised by each operation that begins.
  let begun = Signal()
  /// Lets one operation go on each time that it is raised.
  let gate = Signal()
  /// Raised when the workers have news.
  let news = Signal()
  let store: RecordingStore
  let workers: BlockWorkers
  let guest: BlockGuest

  init(most: Int = 4, queueCount: UInt16 = 1, accepting: UInt64 = Bit.all) throws {
    let (begun, gate, news) = (begun, gate, news)
    store = RecordingStore {
      begun.raise()
      gate.wait()
    }
    store.with { $0.waits = true }
    workers = try BlockWorkers(store, most: most) { news.raise() }
    var options = BlockOptions()
    options.queueCount = queueCount
    guest = try BlockGuest(store, options, accepting: accepting, workers: workers)
  }

  /// Makes a read available and kicks it: request n reads sector n.
  func read(_ number: UInt64, queue: Int = 0) throws -> BlockGuest.Request {
    let request = try guest.offer(Type.read, sector: number, room: 512, slot: number, queue: queue)
    guest.bench.host.kick(queue)
    return request
  }

  func sector(_ number: UInt64) -> [UInt8] {
    Array(store.bytes[Int(number) * 512..<Int(number + 1) * 512])
  }

  /// Wakes the device until it has given so many chains back.
  /// - Returns: their heads, in order.
  func finish(_ count: Int, queue: Int = 0) throws -> [UInt16] {
    var heads: [UInt16] = []
    while heads.count < count {
      try #require(news.wait())
      guest.bench.host.wake()
      heads += try guest.bench.rings[queue].takeAllUsed().map { UInt16($0.id) }
    }
    return heads
  }

  /// Lets everything that waits or will wait go on, and ends the threads.
  func end() {
    gate.raise(1000)
    workers.stop()
  }
}

@Suite("Block workers") struct BlockWorkersTests {
  @Test("a request that has to wait comes back by wake, with a notification")
  func wake() throws {
    let disk = try SlowDisk()
    defer { disk.end() }
    let request = try disk.read(3)
    #expect(disk.begun.wait())
    disk.guest.bench.host.wake()
    #expect(try disk.guest.bench.rings[0].publishedUsedIndex == 0)
    #expect(disk.guest.bench.host.hasChainsInFlight == true)
    disk.guest.bench.notifications.all = []
    disk.gate.raise()
    #expect(disk.news.wait())
    disk.guest.bench.host.wake()
    #expect(disk.guest.bench.notifications.take() == [.queue(0)])
    #expect(try disk.guest.take(request) == Answer(status: 0, data: disk.sector(3), usedByteCount: 513))
    #expect(disk.guest.bench.host.device.counters.reads == 1)
  }

  @Test("what the store has at hand, and what needs no store, is answered at once")
  func atOnce() throws {
    let disk = try SlowDisk()
    defer { disk.end() }
    #expect(try disk.guest.status(Type.identify, room: 20) == Status.done)
    #expect(try disk.guest.status(Type.read, room: 5) == Status.failed)
    disk.store.with { $0.waits = false }
    #expect(try disk.guest.status(Type.read, room: 512) == Status.done)
    #expect(try disk.guest.status(Type.flush) == Status.done)
  }

  @Test("as many requests are under way as there may be threads, and no more", arguments: [1, 3, 8])
  func threads(most: Int) throws {
    let disk = try SlowDisk(most: most)
    defer { disk.end() }
    for number in 0..<12 { _ = try disk.read(UInt64(number)) }
    for _ in 0..<most { #expect(disk.begun.wait()) }
    disk.gate.raise(12)
    #expect(try disk.finish(12).count == 12)
    #expect(disk.store.with { $0.mostPresentCount } == most)
  }

  @Test("each of many requests comes back once, with its own sector, in any order")
  func manyRequests() throws {
    let disk = try SlowDisk(most: 8)
    defer { disk.end() }
    disk.gate.raise(10000)
    for _ in 0..<50 {
      let requests = try (0..<30).map { try disk.read(UInt64($0)) }
      let heads = try disk.finish(30)
      #expect(Set(heads) == Set(requests.compactMap(\.head)))
      for (number, request) in requests.enumerated() {
        #expect(try disk.guest.written(request) == disk.sector(UInt64(number)) + [0])
      }
    }
    #expect(disk.guest.bench.host.device.counters.reads == 1500)
    #expect(disk.guest.bench.host.hasChainsInFlight == false)
  }

  @Test("one thread keeps the order of its requests")
  func order() throws {
    let disk = try SlowDisk(most: 1)
    defer { disk.end() }
    let heads = try (0..<20).map { try disk.read(UInt64($0)).head }
    disk.gate.raise(20)
    #expect(try disk.finish(20) == heads)
    #expect(disk.store.takeLog() == (0..<20).map { .read(at: 512 * $0) })
  }

  @Test("5.2.6.2: a write and the flush that a write-through disk owes it are one request, in this order")
  func writeThrough() throws {
    let disk = try SlowDisk(accepting: Bit.all & ~Bit.flush)
    defer { disk.end() }
    // A store that would not have to wait makes no difference: a flush may.
    disk.store.with { $0.waits = false }
    let request = try disk.guest.offer(Type.write, [UInt8](repeating: 1, count: 512))
    disk.guest.bench.host.kick(0)
    #expect(disk.begun.wait())
    disk.gate.raise()
    #expect(disk.begun.wait())
    #expect(try disk.guest.bench.rings[0].publishedUsedIndex == 0)
    disk.gate.raise()
    #expect(try disk.finish(1) == [request.head])
    #expect(try disk.guest.written(request) == [Status.done])
    #expect(disk.store.takeLog() == [.write(at: 0), .flush])
  }

  @Test("what fails on a worker fails for the driver, is reported, and a flush stays failed")
  func failures() throws {
    let disk = try SlowDisk()
    defer { disk.end() }
    disk.gate.raise(1000)
    disk.store.with { $0.failures = [.read: .injected, .flush: .readOnly] }
    for (type, room) in [(Type.read, 512), (Type.flush, 0)] {
      let request = try disk.guest.offer(type, room: room)
      disk.guest.bench.host.kick(0)
      _ = try disk.finish(1)
      #expect(try disk.guest.written(request).last == Status.failed)
    }
    #expect(disk.guest.reports.all == [.injected, .readOnly])
    #expect(disk.guest.bench.host.device.flushFailure == .readOnly)
    disk.store.with { $0.failures = [:] }
    #expect(try disk.guest.status(Type.flush) == Status.failed)
  }

  @Test(
    "2.4.1: a reset waits for what a thread is at and drops the rest: then neither disk nor memory changes any more")
  func reset() throws {
    let disk = try SlowDisk(most: 1)
    defer { disk.end() }
    let requests = try (0..<3).map { try disk.read(UInt64($0)) }
    #expect(disk.begun.wait())
    let gate = disk.gate
    let opener = try Thread(name: "opener") { gate.raise(1000) }
    try disk.guest.bench.host.writeStatus([])
    opener.join()
    #expect(disk.store.with { $0.presentAtRelease } == [0])
    // How many the thread had begun by the time of the reset is between the two of them, and the release comes last.
    let log = disk.store.takeLog()
    let begun = log.count - 1
    #expect(begun >= 1)
    #expect(log == [.read(at: 0), .read(at: 512), .read(at: 1024)].prefix(begun) + [.flush])
    disk.guest.bench.host.wake()
    #expect(disk.store.takeLog() == [])
    for request in requests.dropFirst(begun) {
      #expect(try disk.guest.written(request) == [UInt8](repeating: BlockGuest.untouched, count: 513))
    }
    #expect(try disk.guest.bench.rings[0].publishedUsedIndex == 0)
  }

  @Test("after a reset that came before the news of a request, the next request is heard of all the same")
  func newsBeforeReset() throws {
    let disk = try SlowDisk()
    defer { disk.end() }
    disk.gate.raise(1000)
    _ = try disk.read(1)
    #expect(disk.news.wait())
    try disk.guest.bench.host.writeStatus([])
    disk.guest.bench.host.wake()
    disk.guest.bench.rings[0] = try RingFixture(size: 64, memory: disk.guest.bench.memory, indirectCapacity: 8)
    try disk.guest.start()
    let request = try disk.read(2)
    #expect(try disk.finish(1) == [request.head])
  }

  @Test("2.6.1: a queue that is reset forgets its requests, and another keeps them", arguments: [false, true])
  func resetQueue(isPaused: Bool) throws {
    let disk = try SlowDisk(most: 2, queueCount: 2)
    defer { disk.end() }
    _ = try disk.read(1, queue: 0)
    let kept = try disk.read(2, queue: 1)
    #expect(disk.begun.wait())
    #expect(disk.begun.wait())
    if isPaused { disk.guest.bench.host.pause() }
    let gate = disk.gate
    let opener = try Thread(name: "opener") { gate.raise(1000) }
    try disk.guest.bench.host.resetQueue(0)
    opener.join()
    #expect(try disk.finish(1, queue: 1) == [kept.head])
    #expect(try disk.guest.bench.rings[0].publishedUsedIndex == 0)
    #expect(disk.guest.bench.host.hasChainsInFlight == false)
    disk.guest.bench.rings[0] = try RingFixture(size: 64, memory: disk.guest.bench.memory, indirectCapacity: 8)
    try disk.guest.bench.host.startQueue(0, disk.guest.bench.rings[0].configuration())
    disk.guest.bench.host.resume()
    let request = try disk.read(3, queue: 0)
    #expect(try disk.finish(1, queue: 0) == [request.head])
  }

  @Test("a paused device with the only queue's request forgotten hears of the next one")
  func resetWhilePaused() throws {
    let disk = try SlowDisk()
    defer { disk.end() }
    disk.gate.raise(1000)
    _ = try disk.read(1)
    #expect(disk.news.wait())
    disk.guest.bench.host.pause()
    try disk.guest.bench.host.resetQueue(0)
    disk.guest.bench.host.wake()
    disk.guest.bench.rings[0] = try RingFixture(size: 64, memory: disk.guest.bench.memory, indirectCapacity: 8)
    try disk.guest.bench.host.startQueue(0, disk.guest.bench.rings[0].configuration())
    disk.guest.bench.host.resume()
    let request = try disk.read(3)
    #expect(try disk.finish(1) == [request.head])
  }

  @Test("a device whose driver broke the ring while requests were out serves again after a reset")
  func broken() throws {
    let disk = try SlowDisk()
    defer { disk.end() }
    disk.gate.raise(1000)
    _ = try disk.read(1)
    try disk.guest.bench.rings[0].offer(head: 999)
    try disk.guest.bench.rings[0].publish()
    disk.guest.bench.host.kick(0)
    #expect(disk.guest.bench.host.isBroken == true)
    #expect(disk.news.wait())
    disk.guest.bench.host.wake()
    try disk.guest.bench.host.writeStatus([])
    disk.guest.bench.rings[0] = try RingFixture(size: 64, memory: disk.guest.bench.memory, indirectCapacity: 8)
    try disk.guest.start()
    let request = try disk.read(2)
    #expect(try disk.finish(1) == [request.head])
  }

  @Test("2.1.2: a broken device is quiet once no thread is at its requests, and hears of the last of them by wake")
  func quietWhenBroken() throws {
    let disk = try SlowDisk()
    defer { disk.end() }
    _ = try disk.read(1)
    #expect(disk.begun.wait())
    try disk.guest.bench.rings[0].offer(head: 999)
    try disk.guest.bench.rings[0].publish()
    disk.guest.bench.host.kick(0)
    disk.guest.bench.host.wake()
    #expect(disk.guest.bench.host.isBroken == true)
    #expect(disk.guest.bench.host.device.hasWorkElsewhere == true)
    #expect(disk.guest.bench.host.isQuiet == false)
    disk.gate.raise(1000)
    #expect(disk.news.wait())
    disk.guest.bench.host.wake()
    #expect(disk.guest.bench.host.device.hasWorkElsewhere == false)
    #expect(disk.guest.bench.host.isQuiet == true)
    try disk.guest.bench.host.writeStatus([])
    disk.guest.bench.rings[0] = try RingFixture(size: 64, memory: disk.guest.bench.memory, indirectCapacity: 8)
    try disk.guest.start()
    let request = try disk.read(2)
    #expect(try disk.finish(1) == [request.head])
    #expect(try disk.guest.written(request) == disk.sector(2) + [Status.done])
  }

  @Test("2.1.2: an answer that has no place breaks the device, and the answers behind it are taken all the same")
  func statusOutsideMemory() throws {
    let disk = try SlowDisk(most: 1)
    defer { disk.end() }
    let header = disk.guest.bench.heap + 5 * 2048
    try disk.guest.bench.memory.write(bytes: BlockGuest.header(Type.read), at: GuestAddress(header))
    _ = try disk.guest.bench.rings[0].send(
      [.readable(header, 16), .writable(header + 512, 512), .writable(1 << 40, 1)], shape: .direct)
    for number in 1..<4 { _ = try disk.read(UInt64(number)) }
    disk.gate.raise(1000)
    for _ in 0..<4 { try #require(disk.news.wait()) }
    disk.guest.bench.host.wake()
    #expect(disk.guest.bench.host.isBroken == true)
    #expect(disk.guest.bench.host.device.hasWorkElsewhere == false)
    #expect(disk.guest.bench.host.isQuiet == true)
  }

  @Test("each completion is announced, though nobody came for the one before")
  func announcements() throws {
    let disk = try SlowDisk(most: 1)
    defer { disk.end() }
    for number in 0..<3 { _ = try disk.read(UInt64(number)) }
    for _ in 0..<3 {
      disk.gate.raise()
      try #require(disk.news.wait())
    }
  }

  @Test("a device is saved only once all that it took was given back")
  func save() throws {
    let disk = try SlowDisk()
    defer { disk.end() }
    _ = try disk.read(1)
    _ = try disk.read(2)
    disk.guest.bench.host.pause()
    #expect(throws: HostError.chainsInFlight(queue: 0, count: 2)) { try disk.guest.bench.save() }
    disk.gate.raise()
    _ = try disk.finish(1)
    #expect(throws: HostError.chainsInFlight(queue: 0, count: 1)) { try disk.guest.bench.save() }
    disk.gate.raise()
    _ = try disk.finish(1)
    let snapshot = try disk.guest.bench.save()
    #expect(snapshot.sections.map(\.name) == ["block-host", "block"])
    #expect(disk.guest.bench.host.device.state.counters.reads == 2)
  }

  @Test("workers end when all is done that they were given; then the device waits by itself")
  func stop() throws {
    let disk = try SlowDisk(most: 2)
    for number in 0..<6 { _ = try disk.read(UInt64(number)) }
    disk.gate.raise(1000)
    disk.workers.stop()
    #expect(disk.store.takeLog().count == 6)
    #expect(disk.store.with { $0.presentCount } == 0)
    disk.guest.bench.host.wake()
    #expect(try disk.guest.bench.rings[0].takeAllUsed().count == 6)
    disk.workers.stop()
    #expect(try disk.guest.status(Type.read, room: 512) == Status.done)
  }

  @Test("workers that had nothing to do end too")
  func stopUnused() throws {
    try BlockWorkers(RecordingStore()) {}.stop()
  }
}
