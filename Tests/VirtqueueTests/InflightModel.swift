import GuestRAM
import Support
import Testing
import Virtqueue

/// A driver, and one device after another on its ring, each killed at some point of some step.
///
/// The point lies between any two stores: those of a step come in the order of the protocol's text, and a number says how
/// many of them were made.
struct InflightModel: ~Copyable {
  let features: RingFeatures
  let area: InflightFixture
  var random: SeededGenerator
  var ring: RingFixture
  var queue: SplitVirtqueue
  /// Chains that the device works on.
  var held: [Model.Held] = []
  /// What was given back and is not published, in that order.
  var batch: [UInt16] = []
  /// What the area must have marked, in the order in which it was first taken.
  var marked: [UInt16] = []
  /// What a device must take next: of those marked, those that it has not taken yet, then what no device ever took.
  var unfinished: [UInt16] = []
  var fresh: [UInt16] = []
  /// What the driver has not got back.
  var outstanding: Set<UInt16> = []
  var killCount = 0
  /// The used index up to which `published` has looked.
  var seenIndex: UInt16

  init(features: RingFeatures, index: UInt16, random: SeededGenerator) throws {
    let area = try InflightFixture()
    let ring = try RingFixture(size: InflightFixture.entryCount, index: index)
    queue = try area.queue(ring, features)
    self.area = area
    self.ring = ring
    self.features = features
    self.random = random
    seenIndex = index
  }

  mutating func step() throws {
    let isKilled = random.once(in: 6)
    switch Int.random(in: 0..<10, using: &random) {
    case 0..<3: try offer()
    case 3..<6: try take(isKilled)
    case 6..<8: try giveBack(isKilled)
    case 8: try publish(isKilled)
    default: try driverTakes()
    }
    #expect(try area.inFlight() == marked)
  }

  /// Lets a last device serve all that is left.
  mutating func finish() throws {
    try kill()
    while !unfinished.isEmpty || !fresh.isEmpty || !outstanding.isEmpty {
      if !unfinished.isEmpty || !fresh.isEmpty { try take(false) }
      while !held.isEmpty { try giveBack(false) }
      try publish(false)
      try driverTakes()
    }
    #expect(try area.inFlight() == [])
    #expect(ring.freeDescriptors.count == Int(ring.size))
  }

  private mutating func offer() throws {
    guard let head = try ring.send([.readable(0x8000, 4)]) else { return }
    fresh.append(head)
    outstanding.insert(head)
  }

  private mutating func take(_ isKilled: Bool) throws {
    guard let chain = try queue.next() else {
      // The turn may be over; what is left of it is taken after the next.
      queue.publish()
      try published()
      return
    }
    let head = chain.head
    if let next = unfinished.first {
      #expect(head == next)
      unfinished.removeFirst()
    } else {
      #expect(head == fresh.first)
      guard !isKilled || random.once(in: 2) else {
        // The counter is there and the mark is not.
        try area.memory.write(UInt8(0), at: area.entry(head))
        return try kill()
      }
      fresh.removeFirst()
      marked.append(head)
    }
    held.append(Model.Held(chain, 0))
    if isKilled { try kill() }
  }

  private mutating func giveBack(_ isKilled: Bool) throws {
    guard let place = held.indices.randomElement(using: &random) else { return }
    guard let chain = held.remove(at: place).chain.take() else { return }
    let head = chain.head
    let before = try area.memory.readBytes(192, at: area.start)
    queue.complete(chain)
    if !features.inOrder { batch.append(head) }
    guard isKilled else { return }
    if random.once(in: 2) {
      // The chain before is named, or not even that, and the last one is not this.
      try area.memory.write(bytes: Array(before[12..<14]), at: area.start.offset(12))
      if random.once(in: 2) { try area.memory.write(bytes: before, at: area.start) }
    }
    try kill()
  }

  private mutating func publish(_ isKilled: Bool) throws {
    let before = try area.memory.readBytes(192, at: area.start)
    let old = try ring.publishedUsedIndex
    queue.publish()
    let batch = try published()
    guard isKilled else { return }
    let new = try ring.publishedUsedIndex
    var storeCount = Int.random(in: 0...(batch.count + 2), using: &random)
    try area.memory.write(bytes: before, at: area.start)
    if storeCount == 0 {
      try ring.memory.publish(old, at: ring.usedRing.offset(2))
      marked = batch + marked
      try sortMarked()
      return try kill()
    }
    for head in batch where storeCount > 1 {
      try area.memory.write(UInt8(0), at: area.entry(head))
      storeCount -= 1
    }
    if storeCount > 1 { try area.memory.write(new, at: area.start.offset(14)) }
    try kill()
  }

  /// The driver may see what was given back; in order, that is what was taken first.
  @discardableResult
  private mutating func published() throws -> [UInt16] {
    let count = try ring.publishedUsedIndex &- seenIndex
    let batch = features.inOrder ? Array(marked.prefix(Int(count))) : batch
    seenIndex &+= count
    #expect(batch.count == Int(count))
    marked.removeAll { batch.contains($0) }
    self.batch = []
    return batch
  }

  private mutating func kill() throws {
    killCount += 1
    held = []
    batch = []
    queue = try area.queue(ring, features)
    seenIndex = try ring.publishedUsedIndex
    unfinished = marked
  }

  private mutating func sortMarked() throws {
    marked = try area.inFlight()
  }

  private mutating func driverTakes() throws {
    if features.inOrder {
      guard let taken = try ring.takeUsedInOrder() else { return }
      for head in taken.heads { #expect(outstanding.remove(head) != nil) }
    } else {
      guard let element = try ring.takeUsed() else { return }
      #expect(outstanding.remove(UInt16(element.id)) != nil)
    }
  }
}

@Suite("Virtqueue: back-ends that are killed") struct InflightModelTests {
  @Test("no chain is lost, and none that the driver has is repeated", arguments: [false, true])
  func life(inOrder: Bool) throws {
    var random = SeededGenerator(for: "InflightModelTests.life \(inOrder)")
    for _ in 0..<40 {
      let index = UInt16.random(in: 65_500...UInt16.max, using: &random)
      var model = try InflightModel(
        features: RingFeatures(eventIndex: true, inOrder: inOrder), index: index, random: random)
      for _ in 0..<500 { try model.step() }
      try model.finish()
      #expect(model.killCount > 10)
      random = model.random
    }
  }
}
