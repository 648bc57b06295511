import GuestRAM
import Support
import Testing
import Virtqueue

@Suite("Virtqueue: turns, putting back, stopping and going on")
struct TurnTests {
  @Test(
    "a driver that never pauses cannot keep the device: a turn has at most twice Queue Size chains",
    arguments: legalSizes)
  func turnBound(size: UInt16) throws {
    let fixture = try RingFixture(size: size, indirectCapacity: 1)
    var queue = try fixture.queue()
    for turn in 1...3 {
      var count = 0
      try fixture.publish(index: queue.nextAvailable &+ 1)
      while try queue.serveOne() != nil {
        count += 1
        // One at a time, and then a whole ring just before the device would stop: that is the most there can be.
        try fixture.publish(index: queue.nextAvailable &+ (count < Int(size) - 1 ? 1 : size))
      }
      #expect(count >= Int(size))
      #expect(count <= 2 * Int(size), "turn \(turn)")
      queue.publish()
      #expect(try queue.requestKicks())
    }
  }

  @Test("2.7.6: a turn takes all that a driver may have made available", arguments: legalSizes)
  func fullTurn(size: UInt16) throws {
    var fixture = try RingFixture(size: size, index: 40000, indirectCapacity: 1)
    for _ in 0..<size { try fixture.add([.readable(0, 1)]) }
    try fixture.publish()
    var queue = try fixture.queue()
    #expect(try queue.serveTurn().count == Int(size))
    #expect(try queue.requestKicks() == false)
  }

  @Test("a chain put back is taken again, whole, as often as it is put back")
  func putBack() throws {
    var fixture = try RingFixture(size: 4, index: 65535)
    let heads = try (0..<2).map { _ in try #require(try fixture.send([.readable(0x10, 4), .writable(0x20, 4)])) }
    var queue = try fixture.queue()
    for _ in 0..<10 {
      var chain = try queue.take()
      #expect(try walk(&chain).head == heads[0])
      queue.putBack(chain)
      #expect(queue.inFlightCount == 0)
      #expect(queue.nextAvailable == 65535)
    }
    #expect(try queue.serveTurn() == heads)
  }

  @Test("a chain put back in a later turn than it was taken in is the next one again")
  func putBackLater() throws {
    var fixture = try RingFixture(size: 4)
    let head = try #require(try fixture.send([.readable(0x10, 4)]))
    var queue = try fixture.queue()
    let chain = try queue.take()
    queue.publish()
    queue.putBack(chain)
    #expect(try queue.serveTurn() == [head])
    #expect(try queue.serveTurn() == [])
  }

  @Test("several chains put back, the last one first")
  func putBackSeveral() throws {
    var fixture = try RingFixture(size: 4)
    let heads = try (0..<3).map { _ in try #require(try fixture.send([.readable(0x10, 4)])) }
    var queue = try fixture.queue(RingFeatures(inOrder: true))
    let first = try queue.take()
    let second = try queue.take()
    let third = try queue.take()
    queue.putBack(third)
    queue.putBack(second)
    _ = first.head
    queue.complete(first)
    #expect(queue.inFlightCount == 0)
    #expect(try queue.serveTurn() == Array(heads[1...]))
  }

  @Test("a queue goes on where another one stopped, over the wrap, with nothing lost or served twice")
  func goesOn() throws {
    var fixture = try RingFixture(size: 8, index: 65530)
    var nextAvailable = fixture.availableIndex
    for _ in 0..<20 {
      let sent = try (0..<5).map { _ in try #require(try fixture.send([.readable(0, 1)])) }
      var served: [UInt16] = []
      for count in [2, 0, 3] {
        var queue = try fixture.queue(nextAvailable: nextAvailable)
        for _ in 0..<count { served.append(try #require(try queue.serveOne()).head) }
        queue.publish()
        nextAvailable = queue.nextAvailable
      }
      #expect(served == sent)
      #expect(try fixture.takeAllUsed().map(\.id) == sent.map { UInt32($0) })
    }
  }

  @Test("2.7.8: what is in flight is what was taken and not given back, restored chains included")
  func inFlight() throws {
    var fixture = try RingFixture(size: 8, index: 65534)
    for _ in 0..<5 { try fixture.add([.readable(0, 1)]) }
    try fixture.publish()
    var queue = try fixture.queue()
    let first = try queue.take()
    let second = try queue.take()
    #expect(queue.inFlightCount == 2)
    let restored = try fixture.queue(nextAvailable: queue.nextAvailable)
    #expect(restored.inFlightCount == 2)
    queue.complete(second)
    #expect(queue.inFlightCount == 1)
    queue.complete(first)
    #expect(queue.inFlightCount == 0)
    #expect(try queue.serveTurn().count == 3)
  }
}
