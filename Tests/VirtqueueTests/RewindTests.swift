import GuestRAM
import Support
import Testing
import Virtqueue

@Suite("Virtqueue: chains given back and taken back before the driver sees them")
struct RewindTests {
  typealias UsedElement = RingFixture.UsedElement

  /// Takes chains and completes each.
  private func complete(_ count: Int, _ queue: inout SplitVirtqueue) throws {
    for _ in 0..<count { #expect(try queue.serveOne(writing: 8) != nil) }
  }

  @Test(
    "a rewound queue returns the same chains again, and the driver sees none of them",
    arguments: [0, 65533] as [UInt16])
  func sameAgain(start: UInt16) throws {
    var fixture = try RingFixture(size: 8, index: start)
    let heads = try (0..<5).map { _ in try #require(try fixture.send([.writable(0, 8)])) }
    var queue = try fixture.queue()
    try complete(2, &queue)
    let mark = queue.mark
    try complete(3, &queue)
    queue.rewind(to: mark)
    #expect(queue.inFlightCount == 0)
    queue.publish()
    #expect(try fixture.takeAllUsed().map(\.id) == heads[0..<2].map(UInt32.init))
    try complete(3, &queue)
    queue.publish()
    #expect(try fixture.takeAllUsed().map(\.id) == heads[2..<5].map(UInt32.init))
    #expect(try queue.next() == nil)
  }

  @Test("2.7.9: in order, the run that had begun names its own last chain again")
  func inOrder() throws {
    var fixture = try RingFixture(size: 8)
    let heads = try (0..<4).map { _ in try #require(try fixture.send([.writable(0, 8)])) }
    var queue = try fixture.queue(RingFeatures(inOrder: true))
    try complete(2, &queue)
    let mark = queue.mark
    try complete(2, &queue)
    #expect(try fixture.usedElement(slot: 0) == UsedElement(id: UInt32(heads[3]), byteCount: 8))
    queue.rewind(to: mark)
    queue.publish()
    #expect(try fixture.usedElement(slot: 0) == UsedElement(id: UInt32(heads[1]), byteCount: 8))
    #expect(try fixture.takeUsedInOrder()?.heads == Array(heads[0..<2]))
  }

  @Test("chains that a rewound queue returns again are noted as in flight again")
  func tracked() throws {
    let fixture = try InflightFixture()
    var ring = try RingFixture(size: 8)
    let heads = try (0..<3).map { _ in try #require(try ring.send([.writable(0, 8)])) }
    var queue = try fixture.queue(ring)
    for _ in 0..<2 {
      let mark = queue.mark
      try complete(3, &queue)
      #expect(try fixture.inFlight() == heads)
      queue.rewind(to: mark)
      #expect(try fixture.inFlight().isEmpty)
    }
    try complete(2, &queue)
    #expect(try fixture.inFlight() == Array(heads[0..<2]))
    queue.publish()
    #expect(try fixture.inFlight().isEmpty)
    #expect(try ring.takeAllUsed().map(\.id) == heads[0..<2].map(UInt32.init))
  }

  @Test("bytes cross any split of a chain, and what a chain lacks is not made up")
  func bytes() throws {
    var fixture = try RingFixture(size: 8)
    try fixture.memory.write(bytes: Array(1...10), at: fixture.heap)
    let base = fixture.heap.rawValue
    _ = try fixture.send([
      .readable(base, 3), .readable(base + 3, 0), .readable(base + 3, 7), .writable(base + 64, 2),
      .writable(base + 70, 4),
    ])
    var queue = try fixture.queue()
    var chain = try queue.take()
    var bytes = [UInt8](repeating: 0, count: 16)
    #expect(try chain.read(into: &bytes, part: 1..<5) == 4)
    #expect(try chain.hasReadableBytes())
    #expect(try chain.read(into: &bytes, part: 5..<16) == 6)
    #expect(try !chain.hasReadableBytes())
    #expect(bytes == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0, 0, 0, 0])
    #expect(try chain.write(bytes, part: 1..<10) == 6)
    #expect(chain.writtenByteCount == 6)
    queue.complete(chain)
    #expect(try fixture.memory.readBytes(2, at: fixture.heap.offset(64)) == [1, 2])
    #expect(try fixture.memory.readBytes(4, at: fixture.heap.offset(70)) == [3, 4, 5, 6])
  }
}
