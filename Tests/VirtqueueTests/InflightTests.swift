import GuestRAM
import Support
import Testing
import Virtqueue

/// An in-flight area as the protocol's text lays it out, in memory of its own.
struct InflightFixture {
  static let entryCount: UInt16 = 8
  let memory: GuestMemory
  let start = GuestAddress(192)

  init() throws {
    memory = try GuestMemory(byteCount: 4096)
  }

  var area: InflightArea { InflightArea(in: memory, at: start, entryCount: Self.entryCount) }

  func configuration(_ ring: RingFixture) throws -> QueueConfiguration {
    var configuration = try ring.configuration()
    configuration.inflight = area
    return configuration
  }

  func queue(_ ring: RingFixture, _ features: RingFeatures = RingFeatures()) throws -> SplitVirtqueue {
    try SplitVirtqueue(configuration(ring), features: features, memory: ring.memory)
  }

  func entry(_ head: UInt16) -> GuestAddress { start.offset(16 + 16 * UInt64(head)) }

  /// The chains that are marked as in flight, by when they were taken.
  func inFlight() throws -> [UInt16] {
    let marked = try (0..<Self.entryCount).filter { try memory.read(UInt8.self, at: entry($0)) != 0 }
    return try marked.sorted {
      try memory.read(UInt64.self, at: entry($0).offset(8)) < memory.read(UInt64.self, at: entry($1).offset(8))
    }
  }

  func mark(_ head: UInt16, counter: UInt64) throws {
    try memory.write(UInt8(1), at: entry(head))
    try memory.write(counter, at: entry(head).offset(8))
  }

  var usedIndex: UInt16 { get throws { try memory.read(UInt16.self, at: start.offset(14)) } }
}

@Suite("Virtqueue: in-flight area") struct InflightTests {
  @Test("the bytes of an area are those that other back-ends count with")
  func sizes() {
    for (entries, bytes) in [(1, 64), (2, 64), (3, 64), (4, 128), (8, 192), (128, 2112), (256, 4160), (32768, 524_352)]
    {
      #expect(InflightArea.byteCount(entryCount: UInt16(entries)) == UInt64(bytes))
    }
  }

  @Test("a chain is marked from when it is taken until the driver has it back")
  func marks() throws {
    let fixture = try InflightFixture()
    var ring = try RingFixture(size: 8)
    var queue = try fixture.queue(ring)
    for _ in 0..<3 { try ring.add([.readable(0, 1)]) }
    try ring.publish()
    let first = try queue.take()
    let second = try queue.take()
    let heads = [first.head, second.head]
    #expect(try fixture.inFlight() == heads)
    queue.complete(first)
    #expect(try fixture.inFlight() == heads)
    #expect(try fixture.usedIndex == 0)
    queue.publish()
    #expect(try fixture.inFlight() == [heads[1]])
    #expect(try fixture.usedIndex == 1)
    #expect(try fixture.memory.read(UInt16.self, at: fixture.start.offset(12)) == heads[0])
    queue.putBack(second)
    #expect(try fixture.inFlight() == [])
  }

  @Test("a successor serves first what was in flight, in the order in which it was taken, and then the rest")
  func successor() throws {
    let fixture = try InflightFixture()
    var ring = try RingFixture(size: 8, index: 65534)
    var heads: [UInt16] = []
    for _ in 0..<5 { heads.append(try #require(try ring.add([.readable(0, 1)]))) }
    try ring.publish()
    do {
      var queue = try fixture.queue(ring)
      _ = try queue.take()
      let second = try queue.take()
      _ = try queue.take()
      queue.complete(second)
      queue.publish()
    }
    var queue = try fixture.queue(ring)
    let again = try queue.take()
    #expect(again.head == heads[0])
    queue.putBack(again)
    #expect(try queue.serveTurn() == [heads[0], heads[2], heads[3], heads[4]])
    #expect(try ring.takeAllUsed().count == 5)
    #expect(try fixture.inFlight() == [])
  }

  @Test("what a driver has back is not served again, though its back-end was killed before it could say so")
  func lastBatch() throws {
    let fixture = try InflightFixture()
    var ring = try RingFixture(size: 8)
    for _ in 0..<3 { try ring.add([.readable(0, 1)]) }
    try ring.publish()
    do {
      var queue = try fixture.queue(ring)
      let chains = [try queue.take().head, try queue.take().head]
      for head in chains { try fixture.mark(head, counter: 1) }
    }
    // As it stands when the used index is out and nothing else.
    let marked = try fixture.inFlight()
    for (place, head) in marked.enumerated() {
      try fixture.memory.write(place == 0 ? UInt16(7) : marked[0], at: fixture.entry(head).offset(6))
    }
    try fixture.memory.write(marked[1], at: fixture.start.offset(12))
    try ring.memory.publish(2, at: ring.usedRing.offset(2))
    var queue = try fixture.queue(ring)
    #expect(try fixture.inFlight() == [])
    #expect(try fixture.usedIndex == 2)
    #expect(try queue.serveTurn().count == 1)
  }

  @Test("an area of zeros is one that was never used, whatever the indices of the ring; so is an erased one")
  func fresh() throws {
    let fixture = try InflightFixture()
    var ring = try RingFixture(size: 8, index: 700)
    for round in 0..<2 {
      if round == 1 {
        try fixture.mark(3, counter: 9)
        try fixture.area.erase()
      }
      try ring.send([.readable(0, 1)])
      var queue = try fixture.queue(ring)
      #expect(try queue.serveTurn().count == 1)
      _ = try ring.takeAllUsed()
    }
    #expect(try fixture.memory.read(UInt16.self, at: fixture.start.offset(8)) == 1)
    #expect(try fixture.memory.read(UInt16.self, at: fixture.start.offset(10)) == 8)
  }

  @Test("areas that make no sense are refused by name")
  func refusals() throws {
    let ring = try RingFixture(size: 8)
    func failure(_ spoil: (InflightFixture) throws -> InflightArea) throws -> VirtqueueError? {
      let fixture = try InflightFixture()
      _ = try fixture.queue(ring)
      var configuration = try ring.configuration()
      configuration.inflight = try spoil(fixture)
      return startFailure(configuration, ring.memory)
    }
    #expect(
      try failure { InflightArea(in: $0.memory, at: $0.start, entryCount: 4) }
        == .inflightAreaTooSmall(entryCount: 4, size: 8))
    #expect(
      try failure {
        try $0.memory.write(UInt16(4), at: $0.start.offset(10))
        return $0.area
      } == .inflightAreaTooSmall(entryCount: 4, size: 8))
    #expect(
      try failure {
        try $0.memory.write(UInt16(2), at: $0.start.offset(8))
        return $0.area
      } == .inflightAreaUnknown(features: 0, version: 2))
    #expect(
      try failure {
        try $0.memory.write(UInt64(5), at: $0.start)
        return $0.area
      } == .inflightAreaUnknown(features: 5, version: 1))
    // The last batch: one chain, whose number is none.
    #expect(
      try failure {
        try $0.memory.write(UInt16.max, at: $0.start.offset(14))
        try $0.memory.write(UInt16(8), at: $0.start.offset(12))
        return $0.area
      } == .inflightAreaBroken(head: 8, size: 8))
    #expect(
      try failure {
        try $0.memory.write(UInt16(9), at: $0.start.offset(14))
        try $0.mark(5, counter: 1)
        return $0.area
      } == .inflightAreaBroken(head: 5, size: 8))
    guard case .memory = try failure({ InflightArea(in: $0.memory, at: GuestAddress(4), entryCount: 8) }),
      case .memory = try failure({ InflightArea(in: $0.memory, at: GuestAddress(4000), entryCount: 8) })
    else { return #expect(Bool(false)) }
  }

  @Test("whatever an area holds, a ring is refused or served, with heads that it has", arguments: 0..<4)
  func hostile(round: Int) throws {
    var random = SeededGenerator(for: "InflightTests.hostile \(round)")
    for _ in 0..<500 {
      let fixture = try InflightFixture()
      var ring = try RingFixture(size: 8)
      for _ in 0..<4 { try ring.add([.readable(0, 1)]) }
      try ring.publish()
      let isNearlyRight = random.once(in: 2)
      for offset in stride(from: isNearlyRight ? UInt64(12) : 0, to: 144, by: 2) where !random.once(in: 3) {
        try fixture.memory.write(
          UInt16.random(in: 0...(random.once(in: 2) ? 9 : .max), using: &random), at: fixture.start.offset(offset))
      }
      if isNearlyRight {
        try fixture.memory.write(UInt16(1), at: fixture.start.offset(8))
        try fixture.memory.write(UInt16(8), at: fixture.start.offset(10))
      }
      let configuration = try fixture.configuration(ring)
      do throws(VirtqueueError) {
        var queue = try SplitVirtqueue(configuration, features: RingFeatures(), memory: ring.memory)
        while let walked = try queue.serveOne() { #expect(walked.head < 8) }
        queue.publish()
      } catch {
        #expect(!error.description.isEmpty)
      }
    }
  }
}
