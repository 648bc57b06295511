import GuestRAM
import Support
import Testing
import Virtqueue

/// A driver and a device upon one ring, each step decided by a seed, beside plain queues that say what must come of it.
struct Model: ~Copyable {
  typealias Buffer = RingFixture.Buffer

  /// Something to hold a chain in an array.
  final class Held {
    var chain: DescriptorChain?
    let number: Int

    init(_ chain: consuming DescriptorChain, _ number: Int) {
      self.chain = consume chain
      self.number = number
    }
  }

  /// What the driver made available, and what the device did with it.
  struct Record {
    var head: UInt16
    var buffers: [Buffer]
    var writtenByteCount: UInt32?
    var isUsedCompletely = false
  }

  let features: RingFeatures
  var random: SeededGenerator
  var fixture: RingFixture
  var queue: SplitVirtqueue
  /// All chains ever made available, in order.
  var records: [Record] = []
  var publishedCount = 0
  var takenCount = 0
  var held: [Held] = []
  /// The chains given back, in the order in which the driver must find them, and how many of them it may see, and saw.
  /// With IN_ORDER, those that no earlier one keeps waiting.
  var givenBack: [Int] = []
  var visibleCount = 0
  var seenCount = 0
  /// The used index at the last answer about notifications.
  var notifiedUsed: UInt16?

  init(size: UInt16, features: RingFeatures, index: UInt16, random: SeededGenerator) throws {
    let fixture = try RingFixture(size: size, index: index, indirectCapacity: 8)
    queue = try fixture.queue(features)
    self.fixture = fixture
    self.features = features
    self.random = random
  }

  mutating func step() throws {
    switch Int.random(in: 0..<16, using: &random) {
    case 0..<4: try addChain()
    case 4..<6: try publishAvailable()
    case 6..<9: try takeChain()
    case 9..<12: try giveBackOne()
    case 12: try publishUsed()
    case 13: try driverTakes()
    case 14: try askAboutKicks()
    default: try restart()
    }
    #expect(queue.inFlightCount == UInt16(takenCount - givenBack.count))
  }

  /// Serves, publishes and takes all, and looks that nothing is left over.
  mutating func finish() throws {
    try publishAvailable()
    // Each round takes, gives or sees one more; a queue that loses a chain runs out of rounds.
    for _ in 0...(2 * records.count) where seenCount < records.count {
      if takenCount < publishedCount { try takeChain() }
      while !held.isEmpty { try giveBackOne() }
      try publishUsed()
      if seenCount < visibleCount { try driverTakes() }
    }
    try #require(seenCount == records.count)
    #expect(fixture.freeDescriptors.count == Int(fixture.size))
    #expect(try queue.serveOne() == nil)
  }
}

// MARK: - The driver's steps

extension Model {
  private mutating func addChain() throws {
    let count = Int.random(in: 1...6, using: &random)
    let readableCount = Int.random(in: 0...count, using: &random)
    let buffers = (0..<count).map { position in
      Buffer(
        address: GuestAddress(.random(in: 0...UInt64.max, using: &random)),
        byteCount: .random(in: 0...100, using: &random), isWritable: position >= readableCount)
    }
    var shape = RingFixture.Shape.direct
    if features.indirectDescriptors, random.once(in: 2) {
      shape = count > 1 && random.once(in: 2) ? .directThenIndirect(count / 2) : .indirect
    }
    guard let head = try fixture.add(buffers, shape: shape) else { return }
    records.append(Record(head: head, buffers: buffers))
  }

  private mutating func publishAvailable() throws {
    try fixture.publish()
    publishedCount = records.count
  }

  private mutating func driverTakes() throws {
    if features.inOrder {
      guard let taken = try fixture.takeUsedInOrder() else { return expectNothingVisible() }
      #expect(!taken.heads.isEmpty)
      for head in taken.heads {
        let record = records[givenBack[seenCount]]
        #expect(record.head == head)
        seenCount += 1
        if seenCount < givenBack.count, head != taken.heads.last { #expect(record.isUsedCompletely) }
      }
      #expect(records[givenBack[seenCount - 1]].writtenByteCount == taken.byteCount)
    } else {
      guard let element = try fixture.takeUsed() else { return expectNothingVisible() }
      let record = records[givenBack[seenCount]]
      #expect(element == RingFixture.UsedElement(id: UInt32(record.head), byteCount: record.writtenByteCount ?? 0))
      seenCount += 1
    }
    #expect(seenCount <= visibleCount)
  }

  private func expectNothingVisible() {
    #expect(seenCount == visibleCount)
  }
}

// MARK: - The device's steps

extension Model {
  private mutating func takeChain() throws {
    guard var chain = try queue.next() else { return try expectNoneTaken() }
    guard takenCount < publishedCount else {
      Issue.record("a chain that was not published")
      return queue.complete(chain)
    }
    #expect(chain.head == records[takenCount].head)
    if random.once(in: 8) { return queue.putBack(chain) }
    if !random.once(in: 8) {
      #expect(try walk(&chain).buffers == records[takenCount].buffers)
      records[takenCount].isUsedCompletely = true
    }
    held.append(Held(chain, takenCount))
    takenCount += 1
  }

  /// None is taken when there is none, or when the turn is over, and publishing begins a new one.
  private mutating func expectNoneTaken() throws {
    guard takenCount < publishedCount else { return }
    try publishUsed()
    guard let chain = try queue.next() else {
      Issue.record("a published chain that is not taken")
      return
    }
    queue.putBack(chain)
  }

  private mutating func giveBackOne() throws {
    guard let place = held.indices.randomElement(using: &random) else { return }
    let held = held.remove(at: place)
    guard var chain = held.chain.take() else { return }
    var record = records[held.number]
    let writable = record.buffers.filter(\.isWritable).reduce(0) { $0 + $1.byteCount }
    let written = random.once(in: 3) ? UInt32.random(in: 0...writable, using: &random) : writable
    chain.didWrite(written)
    queue.complete(chain)
    record.writtenByteCount = written
    record.isUsedCompletely = record.isUsedCompletely && written == writable
    records[held.number] = record
    if features.inOrder {
      while givenBack.count < takenCount, records[givenBack.count].writtenByteCount != nil {
        givenBack.append(givenBack.count)
      }
    } else {
      givenBack.append(held.number)
    }
  }

  private mutating func publishUsed() throws {
    queue.publish()
    visibleCount = givenBack.count
    let new = try fixture.publishedUsedIndex
    let wanted: UInt16 = .random(in: 0...UInt16.max, using: &random)
    let event = random.once(in: 4) ? wanted : new &- UInt16.random(in: 0...8, using: &random)
    let isFlagged = random.once(in: 2)
    if features.eventIndex { try fixture.setUsedEvent(event) }
    try fixture.setInterruptsUnwanted(isFlagged)
    var expected = notifiedUsed != new
    if let old = notifiedUsed, features.eventIndex { expected = (0..<(new &- old)).contains { old &+ $0 == event } }
    if !features.eventIndex { expected = expected && !isFlagged }
    #expect(try queue.notifies() == expected)
    notifiedUsed = new
  }

  private mutating func askAboutKicks() throws {
    if random.once(in: 2) { queue.suppressKicks() }
    let hasMore = try queue.requestKicks()
    #expect(hasMore || takenCount == publishedCount || queue.nextAvailable != fixture.availableIndex)
    #expect(try fixture.usedFlags == 0)
    if !hasMore {
      let old = fixture.availableIndex
      let published = try fixture.memory.acquire(at: fixture.availableRing.offset(2))
      if published == old { #expect(try !features.eventIndex || fixture.availableEvent == old) }
    }
  }

  /// Stops the queue with nothing out and lets another one go on from its index.
  private mutating func restart() throws {
    guard held.isEmpty, random.once(in: 4) else { return }
    try publishUsed()
    queue = try fixture.queue(features, nextAvailable: queue.nextAvailable)
    notifiedUsed = nil
  }
}
