import GuestRAM
import Support
import Testing
import VirtioBlk
import VirtioCore

@Suite("5.2.6 Block device: requests") struct BlockDeviceRequestTests {
  private static func pattern(_ count: Int, _ salt: Int = 5) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: $0 &* salt &+ $0 / 256) }
  }

  @Test("5.2.6: a read brings the sectors that it names, and counts them and the status as written")
  func read() throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store)
    let answer = try guest.ask(Type.read, sector: 3, room: 1024)
    #expect(answer == Answer(status: 0, data: Array(store.bytes[1536..<2560]), usedByteCount: 1025))
    #expect(store.takeLog() == [.read(at: 1536)])
  }

  @Test("5.2.6: a write changes the sectors that it names and no others")
  func write() throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store)
    var bytes = store.bytes
    let data = Self.pattern(1024)
    bytes.replaceSubrange(2048..<3072, with: data)
    #expect(try guest.ask(Type.write, sector: 4, data) == Answer(status: 0, usedByteCount: 1))
    #expect(store.bytes == bytes)
    #expect(store.takeLog() == [.write(at: 2048)])
  }

  @Test("5.2.6.2: a flush reaches the medium")
  func flush() throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store)
    #expect(try guest.ask(Type.flush) == Answer(status: 0, usedByteCount: 1))
    #expect(store.takeLog() == [.flush])
  }

  @Test(
    "5.2.6: the first sector and the last can be read and written, and nothing beyond", arguments: [0, 1] as [UInt32])
  func bounds(type: UInt32) throws {
    let guest = try BlockGuest(RecordingStore(sectorCount: 8))
    func status(_ sector: UInt64, _ count: Int) throws -> UInt8? {
      let data = [UInt8](repeating: 1, count: 512 * count)
      return try type == 0 ? guest.status(0, sector: sector, room: data.count) : guest.status(1, sector: sector, data)
    }
    #expect(try status(0, 1) == Status.done)
    #expect(try status(7, 1) == Status.done)
    #expect(try status(0, 8) == Status.done)
    #expect(try status(8, 0) == Status.done)
    for (sector, count): (UInt64, Int) in [
      (8, 1), (7, 2), (0, 9), (9, 0), (1 << 54, 1), (1 << 55, 1), (1 << 55, 0), (.max, 1), (.max - 7, 8),
      (.max / 512, 2),
    ] {
      #expect(try status(sector, count) == Status.failed, "\(count) sectors at \(sector)")
    }
    #expect(guest.reports.all == [])
    #expect(guest.bench.host.isBroken == false)
  }

  @Test("5.2.6.2: data that is no multiple of 512 bytes is refused, and nothing is read or written")
  func lengths() throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store)
    for count in [1, 256, 511, 513, 1023] {
      let refused = Answer(status: 1, data: [UInt8](repeating: BlockGuest.untouched, count: count), usedByteCount: 0)
      #expect(try guest.ask(Type.read, room: count) == refused)
      #expect(try guest.ask(Type.write, Self.pattern(count))?.status == Status.failed)
    }
    #expect(store.takeLog() == [])
  }

  @Test("5.2.6.2: a disk offered with VIRTIO_BLK_F_RO refuses writes with an error, and reads and flushes")
  func readOnly() throws {
    let store = RecordingStore(isReadOnly: true)
    let guest = try BlockGuest(store)
    let offered = guest.bench.host.offeredFeatures.low
    #expect(offered & Bit.readOnly != 0)
    #expect(offered & (Bit.discard | Bit.writeZeroes) == 0)
    let before = store.bytes
    #expect(try guest.status(Type.write, Self.pattern(512)) == Status.failed)
    #expect(store.bytes == before)
    #expect(try guest.status(Type.read, room: 512) == Status.done)
    #expect(try guest.status(Type.flush) == Status.done)
  }

  @Test(
    "5.2.6: GET_ID brings 20 bytes, padded with zeros, without a terminator when all are used",
    arguments: [("", 0), ("disk", 4), ("12345678901234567890", 20), ("123456789012345678901234", 20), ("sëven", 6)])
  func identify(identifier: String, length: Int) throws {
    var options = BlockOptions()
    options.identifier = identifier
    let guest = try BlockGuest(RecordingStore(), options)
    let expected = Array(identifier.utf8.prefix(20)) + [UInt8](repeating: 0, count: 20 - length)
    let answer = try #require(try guest.ask(Type.identify, room: 20))
    #expect(answer.status == Status.done)
    #expect(answer.data == expected)
    #expect(answer.usedByteCount <= 21)
    // Room for fewer gets fewer, and more than 20 bytes are never written.
    let short = try #require(try guest.ask(Type.identify, room: 5))
    #expect(short == Answer(status: 0, data: Array(expected.prefix(5)), usedByteCount: short.usedByteCount))
    let long = try #require(try guest.ask(Type.identify, room: 30))
    #expect(long.data == expected + [UInt8](repeating: BlockGuest.untouched, count: 10))
    #expect(long.usedByteCount <= 20)
    #expect(try guest.status(Type.identify) == Status.done)
  }

  @Test("5.2.6.2: types that nobody knows, or whose feature is not offered, are not supported")
  func unknownTypes() throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store)
    let types = [2, 3, 5, 6, 7, 9, 12, 17, 100, 0x8000_0000, .max] + Type.zoned + [Type.secureErase, Type.lifetime]
    for type in types {
      let answer = try guest.ask(type, Self.pattern(16), room: 24)
      let untouched = [UInt8](repeating: BlockGuest.untouched, count: 24)
      #expect(answer == Answer(status: 2, data: untouched, usedByteCount: 0), "type \(type)")
    }
    #expect(store.takeLog() == [])
    #expect(guest.bench.host.device.counters.unsupported == UInt64(types.count))
  }

  @Test("5.2.6: whatever stands in the header's reserved word")
  func reserved() throws {
    let guest = try BlockGuest(RecordingStore())
    let request = try guest.offer(BlockGuest.header(Type.read, reserved: .max), room: 513)
    guest.bench.host.kick(0)
    #expect(try guest.take(request)?.status == Status.done)
  }

  @Test("5.2.6: a header that is too short is an error, which the status byte says", arguments: 0..<16)
  func shortHeader(length: Int) throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store)
    let header = Array(BlockGuest.header(Type.flush).prefix(length))
    let request = try guest.offer(header, room: 1)
    guest.bench.host.kick(0)
    #expect(try guest.take(request) == Answer(status: 1, usedByteCount: 1))
    #expect(store.takeLog() == [])
  }

  @Test(
    "5.2.6: a request without room for the status comes back unserved", arguments: [0, 1, 4, 8, 11, 99] as [UInt32])
  func noStatus(type: UInt32) throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store)
    for writable in [[], [0], [0, 0]] {
      _ = try guest.offer(BlockGuest.header(type) + Self.pattern(512), room: 0, writable: writable)
      guest.bench.host.kick(0)
      #expect(try guest.bench.rings[0].takeUsed()?.byteCount == 0)
    }
    #expect(store.takeLog() == [])
    #expect(guest.bench.host.isBroken == false)
  }

  @Test("2.7.4.2: header, data and status may be split over buffers in any way")
  func splits() throws {
    var random = SeededGenerator(for: "splits of block requests")
    let store = RecordingStore()
    let guest = try BlockGuest(store)
    for round in 0..<400 {
      let sector = UInt64.random(in: 0..<60, using: &random)
      let length = 512 * Int.random(in: 0...4, using: &random)
      let isWrite = random.once(in: 2)
      let data = isWrite ? Self.pattern(length, round) : []
      let room = isWrite ? 1 : length + 1
      var expected = store.bytes
      let place = Int(sector) * 512
      if isWrite { expected.replaceSubrange(place..<place + length, with: data) }
      let request = try guest.offer(
        BlockGuest.header(isWrite ? 1 : 0, sector: sector) + data, room: room,
        readable: Self.split(16 + data.count, &random), writable: Self.split(room, &random))
      guest.bench.host.kick(0)
      let answer = try #require(try guest.take(request))
      #expect(answer.status == Status.done)
      #expect(answer.usedByteCount == UInt32(room))
      #expect(answer.data == (isWrite ? [] : Array(expected[place..<place + length])))
      #expect(store.bytes == expected)
    }
  }

  /// Cuts a length into at most 16 pieces, of which some are empty.
  private static func split(_ length: Int, _ random: inout SeededGenerator) -> [Int] {
    let cuts = (0..<Int.random(in: 0..<16, using: &random)).map { _ in Int.random(in: 0...length, using: &random) }
    let places = [0] + cuts.sorted() + [length]
    return zip(places, places.dropFirst()).map { $1 - $0 }
  }

  @Test("2.7.5.3: the same request in an indirect table, and half in one", arguments: [0, 1])
  func indirect(direct: Int) throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store)
    try guest.bench.host.writeStatus([])
    let offered = guest.bench.host.offeredFeatures.low
    try guest.bench.start(Features(low: offered & ~(1 << 35)))
    let request = try guest.offer(
      BlockGuest.header(Type.read, sector: 1), room: 513, readable: [4, 12], writable: [100, 412, 1],
      shape: direct == 0 ? .indirect : .directThenIndirect(1))
    guest.bench.host.kick(0)
    #expect(try guest.take(request) == Answer(status: 0, data: Array(store.bytes[512..<1024]), usedByteCount: 513))
  }

  @Test("2.7.8: when the medium fails, nothing counts as written but a status that comes first")
  func failures() throws {
    let store = RecordingStore()
    store.with { $0.failures = [.read: .injected, .write: .injected, .discard: .unsupported] }
    let guest = try BlockGuest(store)
    #expect(try guest.ask(Type.read, room: 512)?.usedByteCount == 0)
    #expect(try guest.ask(Type.write, Self.pattern(512)) == Answer(status: 1, usedByteCount: 1))
    #expect(try guest.status(Type.discard, BlockGuest.segment(0, 1)) == Status.unsupported)
    #expect(guest.reports.all == [.injected, .unsupported])
  }

  @Test("data in addresses that are not guest memory is the driver's error, which nobody reports")
  func strayData() throws {
    let guest = try BlockGuest(RecordingStore())
    let heap = guest.bench.heap
    for type: UInt32 in [0, 1, 11] {
      try guest.bench.memory.write(bytes: BlockGuest.header(type), at: GuestAddress(heap))
      let stray: RingFixture.Buffer =
        type == 0 ? .writable(1 << 40, 512) : .readable(1 << 40, type == 1 ? 512 : 16)
      _ = try guest.bench.rings[0].send([.readable(heap, 16), stray, .writable(heap + 64, 1)])
      guest.bench.host.kick(0)
      #expect(try guest.bench.rings[0].takeUsed() != nil)
      #expect(try guest.bench.memory.read(UInt8.self, at: GuestAddress(heap + 64)) == Status.failed)
    }
    #expect(guest.reports.all == [])
  }

  @Test("each kind of request is counted, with the bytes that it moved")
  func counters() throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store)
    _ = try guest.ask(Type.read, room: 1024)
    _ = try guest.ask(Type.read, room: 512)
    _ = try guest.ask(Type.write, Self.pattern(2048 - 512))
    _ = try guest.ask(Type.flush)
    _ = try guest.ask(Type.identify, room: 20)
    _ = try guest.ask(Type.discard, BlockGuest.segment(0, 1))
    _ = try guest.ask(Type.writeZeroes, BlockGuest.segment(0, 1))
    _ = try guest.ask(Type.read, room: 100)
    _ = try guest.ask(99)
    _ = try guest.ask(98)
    var expected = BlockCounters()
    expected.reads = 2
    expected.readBytes = 1536
    expected.writes = 1
    expected.writtenBytes = 1536
    expected.flushes = 1
    expected.discards = 1
    expected.zeroWrites = 1
    expected.failures = 1
    expected.unsupported = 2
    #expect(guest.bench.host.device.counters == expected)
  }

  @Test("counters at their limit, from a state that means ill, trap nowhere")
  func countersAtTheirLimit() throws {
    let guest = try BlockGuest(RecordingStore())
    var state = guest.bench.host.device.state
    let most = UInt64.max
    state.counters.reads = most
    state.counters.readBytes = most
    state.counters.writes = most
    state.counters.writtenBytes = most
    state.counters.flushes = most
    state.counters.discards = most
    state.counters.zeroWrites = most
    state.counters.failures = most
    state.counters.unsupported = most
    try guest.bench.host.update { (device) throws in try device.adopt(state) }
    for type in [Type.flush, Type.discard, Type.writeZeroes] {
      #expect(try guest.status(type, type == Type.flush ? [] : BlockGuest.segment(0, 1)) == Status.done)
    }
    #expect(try guest.status(Type.read, room: 512) == Status.done)
    #expect(try guest.status(Type.write, Self.pattern(512)) == Status.done)
    #expect(try guest.status(Type.write, Self.pattern(5)) == Status.failed)
    #expect(try guest.status(99) == Status.unsupported)
  }

  @Test("the driver has its first answers before the device has made all: four at a time")
  func batches() throws {
    let guest = try BlockGuest(RecordingStore())
    let requests = try (0..<10).map { try guest.offer(Type.read, sector: $0, room: 512, slot: $0) }
    #expect(guest.bench.host.kick(0) == false)
    #expect(guest.bench.notifications.take() == [.queue(0), .queue(0), .queue(0)])
    for request in requests { #expect(try guest.take(request)?.status == Status.done) }
  }

  @Test("a driver that never pauses lets the device's thread go on, and is served on the next call")
  func turns() throws {
    let guest = try BlockGuest(RecordingStore(), ringSize: 1024)
    for _ in 0..<1024 { _ = try guest.bench.rings[0].add([.writable(guest.bench.heap, 1)]) }
    try guest.bench.rings[0].publish()
    #expect(guest.bench.host.kick(0) == true)
    let first = try guest.bench.rings[0].publishedUsedIndex
    #expect(first > 0 && first < 1024)
    var calls = 0
    while guest.bench.host.poll(), calls < 100 { calls += 1 }
    #expect(try guest.bench.rings[0].publishedUsedIndex == 1024)
  }
}
