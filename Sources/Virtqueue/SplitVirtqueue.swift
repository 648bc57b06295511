public import GuestRAM

/// The device side of a split virtqueue (2.7): takes the chains that the driver made available and gives them back.
///
/// What is given back becomes visible to the driver with `publish`, so a batch costs one store of the index. A broken
/// ring is an error; the queue must not be used after it.
public struct SplitVirtqueue: ~Copyable {
  /// Queue Size.
  public let size: UInt16
  /// The features that this ring was started with.
  public let features: RingFeatures
  /// The available index of the next chain to take; runs freely over 65536.
  @inlinable
  public var nextAvailable: UInt16 { takeIndex }
  /// The used index once everything given back is published; runs freely over 65536.
  @inlinable
  public var nextUsed: UInt16 { giveIndex }

  @usableFromInline var takeIndex: UInt16
  @usableFromInline var giveIndex: UInt16
  @usableFromInline let descriptors: PairTable
  @usableFromInline let available: MemoryWindow
  /// The heads to take: the entries of the available ring, or what a tracker has laid out.
  @usableFromInline let heads: NumberRing
  @usableFromInline let used: PairRing
  /// The available index as last read; entries before it need no further look at the driver's store.
  public internal(set) var seenAvailable: UInt16
  /// Before this index the heads can be taken without a further look at anything.
  @usableFromInline var readyAvailable: UInt16
  /// The next available index when the current turn began; a turn ends with `publish`.
  @usableFromInline var turnStart: UInt16
  @usableFromInline var publishedUsed: UInt16
  /// The published index at the last decision to notify; nil when nothing is known, as after a restore.
  var notifiedUsed: UInt16?
  /// What `needsNotification` has found last; nil before it was asked.
  public internal(set) var lastDecision: NotificationDecision?
  var areKicksSuppressed: Bool
  /// The used index of the first chain of a run that one element stands for; `giveIndex` when there is none.
  @usableFromInline var runStart: UInt16
  @usableFromInline var waiting: WaitingChains
  /// Whether giving a chain back takes more than an element in the used ring.
  @usableFromInline let takesCare: Bool
  /// Tells a successor what is in flight; nil as a rule.
  @usableFromInline let tracker: InflightTracker?

  /// Opens the three parts of the ring and goes on from `configuration.nextAvailable` and the used index in memory.
  ///
  /// With an in-flight area it goes on from what the area says instead: with the chains that an earlier back-end has not
  /// given back, and then with those that it has not taken.
  public init(
    _ configuration: QueueConfiguration, features: RingFeatures, memory: GuestMemory
  ) throws(VirtqueueError) {
    let size = configuration.size
    guard RingLayout.isLegal(size: size) else { throw .illegalSize(size) }
    let descriptors = try Self.openDescriptors(configuration, memory)
    let available = try Self.openAvailable(configuration, features, memory)
    let used = try Self.openUsed(configuration, features, memory)
    let nextUsed = used.acquire(at: RingLayout.indexOffset)
    let tracker = try configuration.inflight.map { area throws(VirtqueueError) in
      try InflightTracker(area, size: size, usedIndex: nextUsed)
    }
    let nextAvailable = tracker == nil ? configuration.nextAvailable : nextUsed
    guard nextAvailable &- nextUsed <= size else {
      throw .usedIndexDoesNotFit(used: nextUsed, nextAvailable: nextAvailable, size: size)
    }
    areKicksSuppressed = Self.suppressesKicks(used)
    self.size = size
    self.features = features
    self.descriptors = PairTable(descriptors)
    if let tracker {
      heads = NumberRing(tracker.heads.share(), at: 0, count: size)
    } else {
      heads = NumberRing(available.share(), at: RingLayout.entriesOffset, count: size)
    }
    self.available = available
    let usedRing = PairRing(used, at: RingLayout.entriesOffset, count: size)
    takesCare = features.inOrder || tracker != nil || usedRing.isMarked
    self.used = usedRing
    takeIndex = nextAvailable
    self.tracker = tracker
    seenAvailable = nextAvailable &+ (tracker?.unfinishedCount ?? 0)
    readyAvailable = nextAvailable
    turnStart = nextAvailable
    giveIndex = nextUsed
    publishedUsed = nextUsed
    runStart = nextUsed
    waiting = WaitingChains(size: features.inOrder ? size : 0)
  }

  private static func openDescriptors(
    _ configuration: QueueConfiguration, _ memory: GuestMemory
  ) throws(VirtqueueError) -> MemoryWindow {
    try open(
      configuration.descriptorTable, RingLayout.descriptorTableByteCount(size: configuration.size),
      RingLayout.descriptorTableAlignment, memory)
  }

  private static func openAvailable(
    _ configuration: QueueConfiguration, _ features: RingFeatures, _ memory: GuestMemory
  ) throws(VirtqueueError) -> MemoryWindow {
    try open(
      configuration.availableRing,
      RingLayout.availableRingByteCount(size: configuration.size, eventIndex: features.eventIndex),
      RingLayout.availableRingAlignment, memory)
  }

  private static func openUsed(
    _ configuration: QueueConfiguration, _ features: RingFeatures, _ memory: GuestMemory
  ) throws(VirtqueueError) -> MemoryWindow {
    try open(
      configuration.usedRing,
      RingLayout.usedRingByteCount(size: configuration.size, eventIndex: features.eventIndex),
      RingLayout.usedRingAlignment, configuration.isUsedRingMarked ? memory : try unmarked(memory),
      markedAt: configuration.usedRingMark)
  }

  private static func unmarked(_ memory: GuestMemory) throws(VirtqueueError) -> GuestMemory {
    do throws(GuestMemoryError) { return try memory.with(dirtyLog: nil) } catch { throw .memory(error) }
  }

  private static func open(
    _ address: GuestAddress, _ byteCount: Int, _ alignment: Int, _ memory: GuestMemory,
    markedAt mark: GuestAddress? = nil
  ) throws(VirtqueueError) -> MemoryWindow {
    do throws(GuestMemoryError) {
      return try MemoryWindow(of: memory, at: address, byteCount: byteCount, alignment: alignment, markedAt: mark)
    } catch {
      throw .memory(error)
    }
  }

  /// How many chains have been taken and not given back.
  @inlinable
  public var inFlightCount: UInt16 {
    nextAvailable &- nextUsed
  }

  /// Takes the next chain the driver made available, or nil when there is none.
  ///
  /// A turn, which ends with `publish`, stops with nil after at most twice Queue Size chains, so that a driver that never
  /// pauses cannot keep the device's thread for itself; `requestKicks` then says that there is more.
  @inlinable
  @inline(__always)
  public mutating func next() throws(VirtqueueError) -> DescriptorChain? {
    if _slowPath(nextAvailable == readyAvailable) {
      guard try makeReady() else { return nil }
    }
    let head = heads[nextAvailable]
    guard let table = descriptors.share(at: head) else { throw .headOutOfRange(head: head, size: size) }
    let chain = DescriptorChain(
      head: head, position: nextAvailable, table: table, allowsIndirect: features.indirectDescriptors)
    takeIndex &+= 1
    return chain
  }

  /// Has the processor fetch the descriptors of the next chains and the ends of their first buffers, all at once, where
  /// each chain would wait for its own. It changes nothing, and what it has looked at is not believed.
  ///
  /// - Parameters:
  ///   - count: how many chains are going to be taken at most.
  ///   - byteCount: how much of each buffer is going to be used, as a rule.
  public mutating func warm(_ count: Int, byteCount: UInt32) throws(VirtqueueError) {
    // What is made ready there counts as taken.
    guard tracker == nil else { return }
    if nextAvailable == readyAvailable { guard try makeReady() else { return } }
    for ahead in 0..<UInt16(truncatingIfNeeded: min(count, Int(readyAvailable &- nextAvailable))) {
      guard let row = descriptors.load(at: heads[nextAvailable &+ ahead]) else { return }
      let descriptor = Descriptor(row)
      descriptors.touch(GuestAddress(descriptor.address), byteCount: Int(min(descriptor.length, byteCount)))
    }
  }

  /// Looks for chains to take; whether there are any.
  @usableFromInline
  mutating func makeReady() throws(VirtqueueError) -> Bool {
    guard tracker == nil else { return try makeTrackedReady() }
    // Who asked for kicks may have seen some already.
    if nextAvailable == seenAvailable {
      guard nextAvailable &- turnStart < size, try look() else { return false }
    }
    readyAvailable = seenAvailable
    return true
  }

  /// Looks for chains to take, and has the tracker note the next; whether there is one.
  @inline(never)
  private mutating func makeTrackedReady() throws(VirtqueueError) -> Bool {
    if nextAvailable == seenAvailable {
      guard nextAvailable &- turnStart < size, try look() else { return false }
    }
    tracker?.take(nextAvailable, from: available)
    readyAvailable = nextAvailable &+ 1
    return true
  }

  /// Reads the available index again; whether it moved on.
  @inline(__always)
  mutating func look() throws(VirtqueueError) -> Bool {
    let index = available.acquire(at: RingLayout.indexOffset)
    if index == seenAvailable { return false }
    // From what was seen before, and not from what was taken: so an index that goes backwards is too far ahead.
    guard index &- seenAvailable <= size &- (seenAvailable &- nextUsed) else { throw tooFarAhead(index) }
    seenAvailable = index
    return true
  }

  @inline(never)
  private func tooFarAhead(_ index: UInt16) -> VirtqueueError {
    .availableIndexTooFarAhead(index: index, nextAvailable: nextAvailable, inFlight: inFlightCount, size: size)
  }

  /// Gives a chain back to the driver, with the number of bytes that were written into it.
  @inlinable
  @inline(__always)
  public mutating func complete(_ chain: consuming DescriptorChain) {
    guard _slowPath(takesCare) else {
      used.storeUnmarked(UInt32(chain.head), chain.writtenByteCount, at: giveIndex)
      giveIndex &+= 1
      return
    }
    giveWithCare(
      chain.head, chain.writtenByteCount, isComplete: features.inOrder && chain.isUsedCompletely,
      position: chain.position)
  }

  /// Puts the chain that was taken last back, as if it had not been taken: `next` will return it again.
  ///
  /// A device uses this to look at a buffer that it keeps for later. The queue does not report it as new again.
  public mutating func putBack(_ chain: consuming DescriptorChain) {
    precondition(chain.position == nextAvailable &- 1, "only the chain taken last can be put back")
    takeIndex &-= 1
    guard let tracker else { return }
    tracker.putBack(chain.head)
    readyAvailable = nextAvailable
  }

  /// Lets the driver see everything that was given back, and begins a new turn.
  @inlinable
  public mutating func publish() {
    turnStart = nextAvailable
    guard publishedUsed != nextUsed else { return }
    precondition(inFlightCount <= size, "a chain is given back to the queue that it was taken from")
    used.window.publish(nextUsed, at: RingLayout.indexOffset)
    publishedUsed = nextUsed
    runStart = nextUsed
    if _slowPath(takesCare) { trackPublished() }
  }
}
