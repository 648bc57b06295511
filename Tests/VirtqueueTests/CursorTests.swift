import GuestRAM
import Support
import Testing
import Virtqueue

@Suite("Virtqueue: reading and writing chains")
struct CursorTests {
  static let bytes: [UInt8] = (0..<8).map { 0x10 * $0 + 0x0F }

  @Test("2.7.4.2: integers are read alike wherever the driver split them, and are little endian")
  func reads() throws {
    for first in 0...8 {
      for second in first...8 {
        #expect(try Self.read(UInt64.self, splitAt: [first, second]) == [0x7F6F_5F4F_3F2F_1F0F, nil])
        #expect(try Self.read(UInt32.self, splitAt: [first, second]) == [0x3F2F_1F0F, 0x7F6F_5F4F, nil])
        #expect(try Self.read(UInt16.self, splitAt: [first, second]) == [0x1F0F, 0x3F2F, 0x5F4F, 0x7F6F, nil])
        #expect(try Self.read(UInt8.self, splitAt: [first, second]) == Self.bytes.map(Optional.some) + [nil])
      }
    }
  }

  /// Reads eight bytes as integers to their end, from three buffers far from each other.
  private static func read<T: GuestInteger>(_: T.Type, splitAt splits: [Int]) throws -> [T?] {
    var fixture = try RingFixture(size: 8)
    try fixture.send(try scatter(splits, in: fixture, writable: false))
    var queue = try fixture.queue()
    var chain = try queue.take()
    var values: [T?] = []
    repeat { values.append(try chain.read(T.self)) } while values.last != .some(nil)
    return values
  }

  /// Three buffers of eight bytes in all, none aligned, which hold `bytes`.
  private static func scatter(
    _ splits: [Int], in fixture: RingFixture, writable: Bool
  ) throws -> [RingFixture.Buffer] {
    let ends = [0] + splits + [8]
    return try zip(ends, ends.dropFirst()).enumerated().map { number, range in
      let address = fixture.heap.offset(UInt64(number) * 0x1000 + 0xFFD)
      try fixture.memory.write(bytes: writable ? [] : Array(bytes[range.0..<range.1]), at: address)
      return RingFixture.Buffer(address: address, byteCount: UInt32(range.1 - range.0), isWritable: writable)
    }
  }

  @Test("2.7.4.2, 2.7.8: integers are written alike wherever the driver split them, and every byte is counted")
  func writes() throws {
    for first in 0...8 {
      for second in first...8 {
        var fixture = try RingFixture(size: 8)
        let buffers = try Self.scatter([first, second], in: fixture, writable: true)
        try fixture.send(buffers)
        var queue = try fixture.queue()
        var chain = try queue.take()
        #expect(try chain.write(UInt32(0x3F2F_1F0F)))
        #expect(chain.writtenByteCount == 4)
        #expect(try chain.write(UInt16(0x5F4F)))
        #expect(try chain.write(UInt8(0x6F)))
        #expect(try chain.write(UInt8(0x7F)))
        #expect(try chain.write(UInt8(0)) == false)
        queue.complete(chain)
        queue.publish()
        #expect(try fixture.takeUsed()?.byteCount == 8)
        let stored = try buffers.flatMap { try fixture.memory.readBytes(Int($0.byteCount), at: $0.address) }
        #expect(stored == Self.bytes)
      }
    }
  }

  @Test("2.7.4.2, 2.7.8: a head and a body are written together where one buffer has room, and else not at all")
  func together() throws {
    let body = Self.bytes + Self.bytes
    for room in 14...19 as ClosedRange<UInt32> {
      var fixture = try RingFixture(size: 8)
      let address = fixture.heap.offset(0xFFD)
      // Half of the head lies there already, as after an earlier packet.
      try fixture.memory.write(bytes: [1, 2, 3, 4, 5, 6, 7, 8] + [UInt8](repeating: 0xEE, count: 24), at: address)
      try fixture.send([RingFixture.Buffer(address: address, byteCount: room, isWritable: true)])
      var queue = try fixture.queue()
      var chain = try queue.take()
      let isWritten = try chain.write((0x0807_0605_0403_0201, 0x0C0B_0A09), body, part: 3..<9)
      #expect(isWritten == (room >= 18))
      #expect(chain.writtenByteCount == (isWritten ? 18 : 0))
      let behind: [UInt8] = isWritten ? [9, 10, 11, 12] + body[3..<9] : [UInt8](repeating: 0xEE, count: 10)
      #expect(try fixture.memory.readBytes(20, at: address) == [1, 2, 3, 4, 5, 6, 7, 8] + behind + [0xEE, 0xEE])
      if isWritten { #expect(try chain.write(UInt8(1)) == (room > 18)) }
      queue.complete(chain)
    }
  }

  @Test("2.7.5: looking ahead takes nothing, and leaves it to the one who takes to find what is wrong")
  func ahead() throws {
    var fixture = try RingFixture(size: 8)
    let good = RingFixture.Buffer(address: fixture.heap, byteCount: 4, isWritable: true)
    for buffer in [good, .writable(1 << 60, 64), .readable(0, 0), .writable(.max, .max)] { try fixture.send([buffer]) }
    try fixture.memory.write(bytes: [1, 2, 3, 4], at: fixture.heap)
    var queue = try fixture.queue()
    for count in [0, 1, 3, 100] { try queue.warm(count, byteCount: 128) }
    #expect(queue.inFlightCount == 0)
    var chain = try queue.take()
    #expect(chain.head == 0)
    #expect(try chain.next()?.address == good.address)
    queue.complete(chain)
    try queue.warm(100, byteCount: .max)
    #expect(try queue.take().head == 1)
    #expect(try fixture.memory.readBytes(4, at: fixture.heap) == [1, 2, 3, 4])
  }

  @Test("2.7.8.2: a value that does not fit is stored as far as it does, and only that is counted")
  func partialWrite() throws {
    var fixture = try RingFixture(size: 4)
    try fixture.send([.writable(fixture.heap.rawValue, 3)])
    var queue = try fixture.queue()
    var chain = try queue.take()
    #expect(try chain.write(UInt32(0xAABB_CCDD)) == false)
    #expect(chain.writtenByteCount == 3)
    #expect(try fixture.memory.readBytes(4, at: fixture.heap) == [0xDD, 0xCC, 0xBB, 0])
    queue.complete(chain)
  }

  @Test("2.7.4: reading ends before the device-writable buffers, and writing begins with them, past what is unread")
  func border() throws {
    var fixture = try RingFixture(size: 8)
    let heap = fixture.heap.rawValue
    try fixture.memory.write(UInt32(0x0403_0201), at: fixture.heap)
    try fixture.send([.readable(heap, 3), .readable(heap, 0), .writable(heap + 0x100, 0), .writable(heap + 0x200, 2)])
    try fixture.send([.readable(heap, 4), .readable(heap, 4), .writable(heap + 0x300, 2)])
    var queue = try fixture.queue()
    var chain = try queue.take()
    #expect(try chain.read(UInt16.self) == 0x0201)
    #expect(try chain.read(UInt16.self) == nil)
    #expect(try chain.read(UInt8.self) == nil)
    #expect(try chain.write(UInt16(0xBEEF)))
    #expect(try fixture.memory.read(UInt16.self, at: GuestAddress(heap + 0x200)) == 0xBEEF)
    queue.complete(chain)
    var unread = try queue.take()
    #expect(try unread.read(UInt8.self) == 1)
    #expect(try unread.write(UInt16(0xCAFE)))
    #expect(try fixture.memory.read(UInt16.self, at: GuestAddress(heap + 0x300)) == 0xCAFE)
    #expect(try unread.read(UInt8.self) == nil)
    queue.complete(unread)
  }

  @Test("2.7.4.2: what is collected is what is left: a header may be read before, however it was split")
  func collectAfterRead() throws {
    var fixture = try RingFixture(size: 8)
    let heap = fixture.heap.rawValue
    try fixture.send([.readable(heap, 2), .readable(heap + 8, 5), .readable(heap + 16, 7), .writable(heap + 32, 9)])
    var queue = try fixture.queue()
    var chain = try queue.take()
    #expect(try chain.read(UInt32.self) == 0)
    var readable: [GuestBuffer] = []
    var writable: [GuestBuffer] = []
    try chain.collect(readable: &readable, writable: &writable)
    #expect(readable.map(\.address.rawValue) == [heap + 10, heap + 16])
    #expect(readable.map(\.byteCount) == [3, 7])
    #expect(writable == [GuestBuffer(address: GuestAddress(heap + 32), byteCount: 9)])
    #expect(try chain.read(UInt8.self) == nil)
    queue.complete(chain)
  }

  @Test("2.7.4: the lists that collect fills keep the driver's order and tell the two kinds apart")
  func collect() throws {
    var fixture = try RingFixture(size: 8)
    let buffers: [RingFixture.Buffer] = [.readable(0, 1), .readable(8, 0), .writable(16, 3), .writable(.max, .max - 9)]
    try fixture.send(buffers, shape: .directThenIndirect(2))
    var queue = try fixture.queue(RingFeatures(indirectDescriptors: true))
    var chain = try queue.take()
    var readable = [GuestBuffer(address: GuestAddress(7), byteCount: 7)]
    var writable: [GuestBuffer] = []
    try chain.collect(readable: &readable, writable: &writable)
    #expect(readable.map(\.byteCount) == [7, 1, 0])
    #expect(writable.map(\.byteCount) == [3, Int(UInt32.max) - 9])
    queue.complete(chain)
  }

  @Test("2.7.4: a buffer may straddle memory regions, for single integers too")
  func straddling() throws {
    let memory = try GuestMemory(regions: [
      MemoryRegion(anonymous: 0x10000, start: GuestAddress(0)),
      MemoryRegion(memoryFile: 0x1000, start: GuestAddress(0x10000)),
      MemoryRegion(anonymous: 0x1000, start: GuestAddress(0x11000)),
    ])
    var fixture = try RingFixture(size: 4, memory: memory)
    try fixture.send([.readable(0xFFFD, 16), .writable(0x10FFD, 16)])
    try memory.write(bytes: [1, 2, 3, 4, 5, 6, 7, 8], at: GuestAddress(0xFFFD))
    var queue = try fixture.queue()
    var chain = try queue.take()
    #expect(try chain.read(UInt64.self) == 0x0807_0605_0403_0201)
    #expect(try chain.write(UInt64(0x0807_0605_0403_0201)))
    #expect(try memory.readBytes(8, at: GuestAddress(0x10FFD)) == [1, 2, 3, 4, 5, 6, 7, 8])
    queue.complete(chain)
  }

  @Test("2.7.4: a buffer that runs past the end of memory or of the address space fails where it leaves it")
  func endOfSpace() throws {
    let memory = try GuestMemory(regions: [
      MemoryRegion(anonymous: 0x10000, start: GuestAddress(0)),
      MemoryRegion(anonymous: 0xFFF, start: GuestAddress(.max - 0xFFF)),
    ])
    var fixture = try RingFixture(size: 4, memory: memory)
    try fixture.send([.readable(.max - 4, 16), .writable(.max - 1, 1), .writable(.max, 1)])
    var queue = try fixture.queue()
    var chain = try queue.take()
    #expect(try chain.read(UInt32.self) == 0)
    #expect(
      failure { () throws(VirtqueueError) in _ = try chain.read(UInt8.self) }
        == .memory(.outside(GuestRange(start: GuestAddress(.max), byteCount: 1))))
    #expect(try chain.write(UInt8(1)))
    #expect(
      failure { () throws(VirtqueueError) in _ = try chain.write(UInt8(1)) }
        == .memory(.outside(GuestRange(start: GuestAddress(.max), byteCount: 1))))
    #expect(chain.writtenByteCount == 1)
  }

  @Test("what a device writes is marked in the dirty log: buffers at their address, the used ring where it is told to")
  func dirtyMarks() throws {
    let log = try DirtyLog(coveringUpTo: GuestAddress(1 << 24))
    var fixture = try RingFixture(size: 8, memory: GuestMemory(byteCount: 1 << 20).with(dirtyLog: log))
    let buffer = fixture.heap.offset(0x2FFE)
    try fixture.send([.writable(buffer.rawValue, 4)])
    let mark = GuestAddress(0xABC000)
    log.collect { _ in }
    var queue = try SplitVirtqueue(
      fixture.configuration(mark: mark), features: RingFeatures(), memory: fixture.memory)
    var chain = try queue.take()
    #expect(Self.marks(log) == [])
    #expect(try chain.write(UInt32(1)))
    #expect(Self.marks(log) == [buffer.rawValue / 4096, buffer.rawValue / 4096 + 1])
    queue.complete(chain)
    #expect(Self.marks(log) == [mark.rawValue / 4096])
    queue.publish()
    #expect(Self.marks(log) == [mark.rawValue / 4096])
    queue.suppressKicks()
    #expect(Self.marks(log) == [mark.rawValue / 4096])
  }

  private static func marks(_ log: DirtyLog) -> [UInt64] {
    var pages: [UInt64] = []
    log.collect { pages.append($0) }
    return pages
  }
}
