import GuestRAM
import Support
import Testing
import Virtqueue

@Suite("Virtqueue: chains")
struct ChainTests {
  typealias Buffer = RingFixture.Buffer

  static let indirect = RingFeatures(indirectDescriptors: true)

  @Test("2.7.6: nothing is taken before the driver publishes it")
  func empty() throws {
    var fixture = try RingFixture(size: 4)
    var queue = try fixture.queue()
    #expect(try queue.serveOne() == nil)
    try fixture.add([.readable(fixture.heap.rawValue, 1)])
    #expect(try queue.serveOne() == nil)
    try fixture.publish()
    #expect(try queue.serveOne() != nil)
    #expect(try queue.serveOne() == nil)
  }

  @Test(
    "2.7.4, 2.7.5.3: buffers come as the driver listed them: direct, in a table, or direct ones and then a table",
    arguments: [.direct, .indirect, .directThenIndirect(1), .directThenIndirect(4)] as [RingFixture.Shape])
  func shapes(shape: RingFixture.Shape) throws {
    var fixture = try RingFixture(size: 8)
    let heap = fixture.heap.rawValue
    let buffers: [Buffer] = [
      .readable(heap, 16), .readable(heap + 0x100, 1), .writable(heap + 0x1000, 4096), .writable(heap + 0x3000, 1),
      .writable(0, .max >> 1),
    ]
    var queue = try fixture.queue(Self.indirect)
    let head = try #require(try fixture.send(buffers, shape: shape))
    #expect(try queue.serveOne(writing: 7) == Walked(head: head, buffers: buffers))
    #expect(try fixture.takeUsed() == nil)
    queue.publish()
    #expect(try fixture.takeUsed() == RingFixture.UsedElement(id: UInt32(head), byteCount: 7))
    #expect(fixture.freeDescriptors.count == 8)
  }

  @Test("2.7.5.3.2: WRITE on the descriptor that leads to an indirect table means nothing")
  func writeFlagOnIndirect() throws {
    var fixture = try RingFixture(size: 8)
    let buffers: [Buffer] = [.readable(fixture.heap.rawValue, 8), .writable(fixture.heap.rawValue, 8)]
    let head = try #require(try fixture.send(buffers, shape: .indirect))
    try fixture.writeDescriptor(
      head, address: fixture.indirectTable(of: head).rawValue, byteCount: 32,
      flags: RingFixture.indirect | RingFixture.write)
    var queue = try fixture.queue(Self.indirect)
    #expect(try queue.serveOne()?.buffers == buffers)
  }

  @Test("2.7.5: a descriptor's next means nothing without NEXT, nor its unknown flags")
  func strayFields() throws {
    let fixture = try RingFixture(size: 4)
    try fixture.writeDescriptor(2, address: 0x10, byteCount: 3, flags: 0xFFF8, next: 0xFFFF)
    var offering = fixture
    try offering.offer(head: 2)
    try offering.publish()
    var queue = try offering.queue()
    #expect(try queue.serveOne() == Walked(head: 2, buffers: [.readable(0x10, 3)]))
  }

  @Test(
    "2.7.5: buffers of no bytes are walked like all others", arguments: [.direct, .indirect] as [RingFixture.Shape])
  func emptyBuffers(shape: RingFixture.Shape) throws {
    var fixture = try RingFixture(size: 8)
    let heap = fixture.heap.rawValue
    let buffers: [Buffer] = [.readable(.max, 0), .readable(heap, 4), .readable(heap, 0), .writable(.max, 0)]
    try fixture.send(buffers, shape: shape)
    var queue = try fixture.queue(Self.indirect)
    #expect(try queue.serveOne()?.buffers == buffers)
  }

  @Test("2.7.5: a chain may have as many descriptors as the queue", arguments: legalSizes)
  func longestChain(size: UInt16) throws {
    var fixture = try RingFixture(size: size, indirectCapacity: 1)
    let buffers = (0..<size).map { Buffer.readable(UInt64($0) * 16, UInt32($0)) }
    let head = try #require(try fixture.send(buffers))
    var queue = try fixture.queue()
    #expect(try queue.serveOne() == Walked(head: head, buffers: buffers))
  }

  @Test("2.7.5.3: an indirect table may be longer than the queue, as Linux makes it, up to 32768 descriptors")
  func longestIndirectChain() throws {
    var fixture = try RingFixture(size: 1, indirectCapacity: 32768)
    let buffers = (0..<32768).map { Buffer.writable(UInt64($0), UInt32($0 & 3)) }
    try fixture.send(buffers, shape: .indirect)
    var queue = try fixture.queue(Self.indirect)
    #expect(try queue.serveOne()?.buffers == buffers)
  }

  @Test("2.7.5: a chain of 2³²-1 bytes is the largest")
  func largestChain() throws {
    var fixture = try RingFixture(size: 4)
    let buffers: [Buffer] = [.readable(0, 0x8000_0000), .writable(0, 0x7FFF_FFFF)]
    try fixture.send(buffers)
    var queue = try fixture.queue()
    #expect(try queue.serveOne()?.buffers == buffers)
  }

  @Test("2.7.6, 2.7.8: the indices run freely over 65536 in queues of every size", arguments: legalSizes)
  func wrap(size: UInt16) throws {
    var fixture = try RingFixture(size: size, index: 65535, indirectCapacity: 1)
    var queue = try fixture.queue()
    for round in 0..<3 {
      var heads: [UInt16] = []
      for _ in 0..<min(size, 5) {
        heads.append(try #require(try fixture.add([.writable(fixture.heap.rawValue, UInt32(round))])))
      }
      try fixture.publish()
      #expect(try queue.serveTurn() == heads)
      #expect(try fixture.takeAllUsed().map(\.id) == heads.map { UInt32($0) })
    }
    #expect(try fixture.publishedUsedIndex == 65535 &+ 3 * min(size, 5))
  }

  @Test("2.7.6: all 65536 indices of a queue are taken in order, and all again")
  func wholeCircle() throws {
    var fixture = try RingFixture(size: 256, indirectCapacity: 1)
    var queue = try fixture.queue()
    for round in 0..<(2 * 65536 / 256) {
      var heads: [UInt16] = []
      for _ in 0..<256 { heads.append(try #require(try fixture.add([.readable(UInt64(round), 1)]))) }
      try fixture.publish()
      #expect(try queue.serveTurn() == heads)
      #expect(try fixture.takeAllUsed().map(\.id) == heads.map { UInt32($0) })
    }
    #expect(queue.nextAvailable == 0)
    #expect(queue.nextUsed == 0)
  }

  @Test("2.7.8: chains may be given back in any order")
  func outOfOrder() throws {
    var fixture = try RingFixture(size: 4)
    let heads = try (0..<3).map { _ in try #require(try fixture.send([.writable(0, 8)])) }
    var queue = try fixture.queue()
    let first = try queue.take()
    let second = try queue.take()
    let third = try queue.take()
    #expect(queue.inFlightCount == 3)
    queue.complete(third)
    queue.complete(first)
    #expect(queue.inFlightCount == 1)
    queue.complete(second)
    queue.publish()
    #expect(try fixture.takeAllUsed().map(\.id) == [heads[2], heads[0], heads[1]].map { UInt32($0) })
    #expect(queue.inFlightCount == 0)
  }

  @Test("2.7.13.3: a descriptor is read once: what the driver changes behind the walk changes nothing")
  func changedBehind() throws {
    var fixture = try RingFixture(size: 4)
    let head = try #require(try fixture.send([.readable(0x10, 1), .writable(0x20, 2)]))
    var queue = try fixture.queue()
    var chain = try queue.take()
    #expect(try chain.next()?.buffer == .readable(0x10, 1))
    try fixture.writeDescriptor(head, address: 0x30, byteCount: 9, flags: 7, next: 99)
    try fixture.memory.write(UInt16(3), at: fixture.availableRing.offset(4))
    #expect(try chain.next()?.buffer == .writable(0x20, 2))
    #expect(try chain.next() == nil)
    queue.complete(chain)
    queue.publish()
    #expect(try fixture.takeUsed()?.id == UInt32(head))
  }

  @Test("2.7.5: the device never writes the descriptor table nor the available ring", arguments: allRingFeatures)
  func readOnlyParts(features: RingFeatures) throws {
    var fixture = try RingFixture(size: 8)
    for _ in 0..<6 { try fixture.add([.writable(fixture.heap.rawValue, 8)]) }
    try fixture.publish()
    let count = Int(fixture.usedRing.rawValue - fixture.descriptorTable.rawValue)
    let before = try fixture.memory.readBytes(count, at: fixture.descriptorTable)
    var queue = try fixture.queue(features)
    queue.suppressKicks()
    #expect(try queue.serveTurn().count == 6)
    _ = queue.needsNotification()
    #expect(try queue.requestKicks() == false)
    #expect(try fixture.memory.readBytes(count, at: fixture.descriptorTable) == before)
  }

  @Test("a chain keeps the memory that it was made from")
  func outlivesQueue() throws {
    let chain = try Self.orphan()
    var walking = chain
    #expect(try walking.read(UInt32.self) == 0xDEAD_BEEF)
  }

  private static func orphan() throws -> DescriptorChain {
    var fixture = try RingFixture(size: 4)
    try fixture.memory.write(UInt32(0xDEAD_BEEF), at: fixture.heap)
    try fixture.send([.readable(fixture.heap.rawValue, 4)])
    var queue = try fixture.queue()
    return try queue.take()
  }
}
