import GuestRAM

/// Keeps an in-flight area true while a queue takes chains and gives them back, so that a back-end killed between any two
/// of these stores loses no chain and repeats none that the driver has back.
@usableFromInline
final class InflightTracker {
  private typealias Layout = InflightArea.Layout

  /// A ring like the available ring, with the heads that are to be taken.
  let heads: MemoryWindow
  private let area: MemoryWindow
  private let size: UInt16
  /// Orders the chains by when they were taken.
  private var counter: UInt64 = 0
  /// What an earlier back-end had in flight, in the order in which it was taken.
  private var unfinished: [UInt16] = []
  /// How many chains were taken since the start, and not put back.
  private var takenCount = 0
  /// What was given back and not yet published.
  private var batch: [UInt16] = []

  private static let knownVersion: UInt16 = 1

  /// Goes on from what the area says of a ring.
  ///
  /// - Parameters:
  ///   - size: Queue Size.
  ///   - usedIndex: the used index in guest memory.
  init(_ area: InflightArea, size: UInt16, usedIndex: UInt16) throws(VirtqueueError) {
    guard area.entryCount >= size else { throw .inflightAreaTooSmall(entryCount: area.entryCount, size: size) }
    self.area = try area.open()
    self.size = size
    heads = try Self.makeHeads(size)
    try format(entryCount: area.entryCount, usedIndex)
    try finishLastBatch(usedIndex)
    collectUnfinished()
  }

  private static func makeHeads(_ size: UInt16) throws(VirtqueueError) -> MemoryWindow {
    let (start, byteCount) = (GuestAddress(0), 2 * Int(size))
    do throws(GuestMemoryError) {
      let memory = try GuestMemory(regions: [MemoryRegion(anonymous: UInt64(byteCount), start: start)])
      return try MemoryWindow(of: memory, at: start, byteCount: byteCount, alignment: 2)
    } catch {
      throw .memory(error)
    }
  }

  /// How many chains an earlier back-end had in flight.
  var unfinishedCount: UInt16 { UInt16(unfinished.count) }

  /// A chain is about to be taken: one that an earlier back-end did not finish, or else that of the available ring.
  ///
  /// - Parameters:
  ///   - index: the available index that the chain is taken with; its place in `heads` gets the chain's head.
  ///   - available: the available ring.
  func take(_ index: UInt16, from available: borrowing MemoryWindow) {
    let offset = 2 * Int(index & (size - 1))
    let next = available.load(UInt16.self, at: RingLayout.entriesOffset + offset)
    heads.store(take(next), at: offset)
  }

  private func take(_ next: UInt16) -> UInt16 {
    defer { takenCount += 1 }
    if takenCount < unfinished.count { return unfinished[takenCount] }
    // Such a head is refused and not served.
    guard next < size else { return next }
    area.store(counter, at: Layout.counter(next))
    counter &+= 1
    GuestMemory.storeBarrier()
    area.store(UInt8(1), at: Layout.isInFlight(next))
    return next
  }

  /// The chain that was taken last was put back.
  func putBack(_ head: UInt16) {
    takenCount -= 1
    // An unfinished one is not in its place in the available ring, where a successor would look for it.
    if takenCount >= unfinished.count { area.store(UInt8(0), at: Layout.isInFlight(head)) }
  }

  /// A chain is in the used ring, unpublished.
  func give(_ head: UInt16) {
    area.store(area.load(UInt16.self, at: Layout.lastGiven), at: Layout.previous(head))
    GuestMemory.storeBarrier()
    area.store(head, at: Layout.lastGiven)
    batch.append(head)
  }

  /// The chain that was given last, and not yet published, was put back.
  func takeBack() {
    guard let head = batch.popLast() else { return }
    area.store(area.load(UInt16.self, at: Layout.previous(head)), at: Layout.lastGiven)
    putBack(head)
  }

  /// The used index was published.
  func publish(_ usedIndex: UInt16) {
    GuestMemory.storeBarrier()
    for head in batch { area.store(UInt8(0), at: Layout.isInFlight(head)) }
    batch.removeAll(keepingCapacity: true)
    area.publish(usedIndex, at: Layout.usedIndex)
  }

  /// Makes an area that was never used one in which nothing is in flight.
  private func format(entryCount: UInt16, _ usedIndex: UInt16) throws(VirtqueueError) {
    let features = area.load(UInt64.self, at: Layout.features)
    let version = area.load(UInt16.self, at: Layout.version)
    guard version == 0 else {
      guard features == 0, version == Self.knownVersion else {
        throw .inflightAreaUnknown(features: features, version: version)
      }
      let count = area.load(UInt16.self, at: Layout.entryCount)
      guard count == entryCount else { throw .inflightAreaTooSmall(entryCount: count, size: entryCount) }
      return
    }
    for head in 0..<size { area.store(UInt8(0), at: Layout.isInFlight(head)) }
    area.store(UInt64(0), at: Layout.features)
    area.store(entryCount, at: Layout.entryCount)
    area.store(usedIndex, at: Layout.usedIndex)
    area.publish(Self.knownVersion, at: Layout.version)
  }

  /// The driver has all of a batch once the used index is published, whatever of it is still marked.
  private func finishLastBatch(_ usedIndex: UInt16) throws(VirtqueueError) {
    let count = usedIndex &- area.load(UInt16.self, at: Layout.usedIndex)
    guard count != 0 else { return }
    if count <= size {
      var head = area.load(UInt16.self, at: Layout.lastGiven)
      for _ in 0..<count {
        guard head < size else { throw .inflightAreaBroken(head: head, size: size) }
        area.store(UInt8(0), at: Layout.isInFlight(head))
        head = area.load(UInt16.self, at: Layout.previous(head))
      }
    } else if let head = (0..<size).first(where: isInFlight) {
      // Another ring's area, or one of another time: what it has in flight would be served to the wrong driver.
      throw .inflightAreaBroken(head: head, size: size)
    }
    area.publish(usedIndex, at: Layout.usedIndex)
  }

  private func collectUnfinished() {
    let marked = (0..<size).filter(isInFlight).map { head in
      (head: head, counter: area.load(UInt64.self, at: Layout.counter(head)))
    }
    // Both numbers come from a peer: equal counters must not change the order from one start to the next.
    let sorted = marked.sorted { ($0.counter, $0.head) < ($1.counter, $1.head) }
    unfinished = sorted.map(\.head)
    counter = (sorted.last?.counter ?? 0) &+ 1
  }

  private func isInFlight(_ head: UInt16) -> Bool {
    area.load(UInt8.self, at: Layout.isInFlight(head)) != 0
  }
}

extension SplitVirtqueue {
  @usableFromInline
  func trackGiven(_ head: UInt16) {
    tracker?.give(head)
  }

  @usableFromInline
  func trackPublished() {
    tracker?.publish(publishedUsed)
  }
}
