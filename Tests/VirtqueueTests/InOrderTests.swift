import GuestRAM
import Support
import Testing
import Virtqueue

@Suite("Virtqueue: VIRTIO_F_IN_ORDER")
struct InOrderTests {
  typealias UsedElement = RingFixture.UsedElement

  static let inOrder = RingFeatures(inOrder: true)

  /// Sends so many chains of one writable buffer of 8 bytes.
  static func send(_ count: Int, _ fixture: inout RingFixture) throws -> [UInt16] {
    try (0..<count).map { _ in try #require(try fixture.send([.writable(0, 8)])) }
  }

  static func complete(_ chain: consuming DescriptorChain, _ queue: inout SplitVirtqueue, written: UInt32) throws {
    _ = try walk(&chain)
    chain.didWrite(written)
    queue.complete(chain)
  }

  @Test(
    "2.7.9: a run of chains used completely is one element: the last one's id, in the first one's slot",
    arguments: [0, 6, 65534] as [UInt16])
  func run(start: UInt16) throws {
    var fixture = try RingFixture(size: 8, index: start)
    let heads = try Self.send(5, &fixture)
    var queue = try fixture.queue(Self.inOrder)
    while try queue.serveOne(writing: 8) != nil {}
    #expect(try fixture.takeUsedInOrder() == nil)
    queue.publish()
    #expect(try fixture.publishedUsedIndex == start &+ 5)
    #expect(try fixture.usedElement(slot: start % 8) == UsedElement(id: UInt32(heads[4]), byteCount: 8))
    for skipped in 1..<5 as Range<UInt16> {
      #expect(try fixture.usedElement(slot: (start &+ skipped) % 8) == UsedElement(id: 0, byteCount: 0))
    }
    let taken = try #require(try fixture.takeUsedInOrder())
    #expect(taken.heads == heads)
    #expect(try fixture.takeUsedInOrder() == nil)
  }

  @Test("2.7.9: a chain that is not used completely ends the run, so that its length is told")
  func partial() throws {
    var fixture = try RingFixture(size: 8)
    let heads = try Self.send(6, &fixture)
    var queue = try fixture.queue(Self.inOrder)
    for written in [8, 8, 3, 0, 8, 8] as [UInt32] { #expect(try queue.serveOne(writing: written) != nil) }
    queue.publish()
    let runs = [(Array(heads[0...2]), 3), ([heads[3]], 0), (Array(heads[4...5]), 8)] as [([UInt16], UInt32)]
    for run in runs {
      let taken = try #require(try fixture.takeUsedInOrder())
      #expect(taken.heads == run.0)
      #expect(taken.byteCount == run.1)
    }
    #expect(try fixture.takeUsedInOrder() == nil)
  }

  @Test("2.7.9: a chain that was not walked to its end counts as not used completely")
  func notWalked() throws {
    var fixture = try RingFixture(size: 8)
    let heads = try Self.send(2, &fixture)
    var queue = try fixture.queue(Self.inOrder)
    queue.complete(try queue.take())
    try Self.complete(try queue.take(), &queue, written: 8)
    queue.publish()
    #expect(try fixture.takeUsedInOrder()?.heads == [heads[0]])
    #expect(try fixture.takeUsedInOrder()?.heads == [heads[1]])
  }

  @Test("2.7.9: chains without device-writable buffers form runs too")
  func readable() throws {
    var fixture = try RingFixture(size: 8)
    let heads = try (0..<4).map { _ in try #require(try fixture.send([.readable(0, 9)])) }
    var queue = try fixture.queue(Self.inOrder)
    #expect(try queue.serveTurn() == heads)
    let taken = try #require(try fixture.takeUsedInOrder())
    #expect(taken.heads == heads)
    #expect(taken.byteCount == 0)
  }

  @Test("2.7.9: what is given back ahead of its turn waits, and counts as in flight")
  func waits() throws {
    var fixture = try RingFixture(size: 4, index: 65535)
    let heads = try Self.send(4, &fixture)
    var queue = try fixture.queue(Self.inOrder)
    let first = try queue.take()
    let second = try queue.take()
    let third = try queue.take()
    let fourth = try queue.take()
    try Self.complete(fourth, &queue, written: 8)
    try Self.complete(second, &queue, written: 8)
    queue.publish()
    #expect(queue.inFlightCount == 4)
    #expect(try fixture.publishedUsedIndex == 65535)
    try Self.complete(first, &queue, written: 8)
    queue.publish()
    #expect(queue.inFlightCount == 2)
    #expect(try fixture.takeUsedInOrder()?.heads == [heads[0], heads[1]])
    try Self.complete(third, &queue, written: 1)
    queue.publish()
    #expect(try fixture.takeUsedInOrder()?.heads == [heads[2]])
    #expect(try fixture.takeUsedInOrder()?.heads == [heads[3]])
    #expect(queue.inFlightCount == 0)
  }

  @Test("2.7.9: an element that was published is never changed by a later batch")
  func publishEndsRun() throws {
    var fixture = try RingFixture(size: 8)
    let heads = try Self.send(4, &fixture)
    var queue = try fixture.queue(Self.inOrder)
    for _ in 0..<2 { #expect(try queue.serveOne(writing: 8) != nil) }
    queue.publish()
    for _ in 0..<2 { #expect(try queue.serveOne(writing: 8) != nil) }
    #expect(try fixture.usedElement(slot: 0) == UsedElement(id: UInt32(heads[1]), byteCount: 8))
    queue.publish()
    #expect(try fixture.takeUsedInOrder()?.heads == [heads[0], heads[1]])
    #expect(try fixture.takeUsedInOrder()?.heads == [heads[2], heads[3]])
  }

  @Test("2.7.9: a run may fill the whole ring, of any size", arguments: legalSizes)
  func wholeRing(size: UInt16) throws {
    var fixture = try RingFixture(size: size, index: 65530, indirectCapacity: 1)
    var queue = try fixture.queue(Self.inOrder)
    for _ in 0..<3 {
      for _ in 0..<size { try fixture.add([.readable(0, 1)]) }
      try fixture.publish()
      #expect(try queue.serveTurn().count == Int(size))
      let heads = fixture.freeDescriptors
      #expect(heads.isEmpty)
      #expect(try fixture.takeUsedInOrder()?.heads.count == Int(size))
    }
  }

  @Test("2.7.9: a queue that goes on with chains in flight gives back in order from there")
  func restarted() throws {
    var fixture = try RingFixture(size: 4)
    let heads = try Self.send(2, &fixture)
    var stopped = try fixture.queue(Self.inOrder)
    #expect(try stopped.serveOne(writing: 8)?.head == heads[0])
    stopped.publish()
    var queue = try fixture.queue(Self.inOrder)
    #expect(try queue.serveOne(writing: 8)?.head == heads[1])
    queue.publish()
    #expect(try fixture.takeUsedInOrder()?.heads == [heads[0]])
    #expect(try fixture.takeUsedInOrder()?.heads == [heads[1]])
  }
}
