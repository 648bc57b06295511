import LinuxIO
import Synchronization

/// Stores into memory that nobody has touched yet, at half of what it costs otherwise: the kernel copies into a page
/// that it has not cleared before, and puts it in its place without a page fault.
///
/// Whoever else uses the memory meanwhile notices nothing of it.
public final class FreshPages: Sendable {
  private static let pageByteCount: UInt64 = 4096

  private let memory: GuestMemory
  private let userfaultfd: Userfaultfd
  /// How many regions from the first on the kernel fills in this way.
  private let registeredCount = Mutex(0)
  private let hugeStretches = Monitor(HugeStretches())
  private let decided = WakeUp()

  /// - Parameter memory: regions of whole pages. The result is nil where there is nothing to be gained: for memory in huge
  ///   pages, and where the kernel (before Linux 6.4) cannot do it or somebody else has the memory's page faults.
  public init?(of memory: GuestMemory) {
    guard memory.regions.allSatisfy(\.hasSmallPages) else { return nil }
    // Protection is the one kind of fault that is never met unless it is asked for, page by page.
    guard let userfaultfd = try? Userfaultfd(.protection, isForSystemCalls: false) else { return nil }
    self.memory = memory
    self.userfaultfd = userfaultfd
    for region in memory.regions {
      do throws(LinuxError) {
        try self.userfaultfd.register(
          region.mapping, at: region.mappingOffset, byteCount: Int(region.range.byteCount), for: .writes)
      } catch {
        stop()
        return nil
      }
      registeredCount.withLock { $0 += 1 }
    }
  }

  deinit {
    stop()
  }

  /// Copies whole pages, from memory that nobody writes meanwhile; those that are there already are overwritten.
  ///
  /// - Parameters:
  ///   - range: whole pages of one region of `other`.
  ///   - start: where they go, in one region of this memory.
  public func store(
    _ range: GuestRange, of other: GuestMemory, at start: GuestAddress
  ) throws(GuestMemoryError) {
    let target = GuestRange(start: start, byteCount: range.byteCount)
    guard start.rawValue % Self.pageByteCount == 0, range.byteCount % Self.pageByteCount == 0 else {
      throw .unaligned(start, multipleOf: Int(Self.pageByteCount))
    }
    guard let region = memory.regions.first(where: { $0.range.overlap(target) == target }) else {
      throw .divided(target)
    }
    var done: UInt64 = 0
    while done < range.byteCount {
      let address = GuestAddress(start.rawValue + done)
      let count = min(range.byteCount - done, HugeStretches.bytes(after: address))
      let part = GuestRange(start: GuestAddress(range.start.rawValue + done), byteCount: count)
      if takeHugePages(for: GuestRange(start: address, byteCount: count)) || registeredCount.withLock({ $0 }) == 0 {
        try memory.makePresent(GuestRange(start: address, byteCount: count))
        try other.copy(part, to: memory, at: address)
      } else {
        try storeSmall(part, of: other, region, at: address)
      }
      done += count
    }
    memory.dirtyLog?.mark(target)
  }

  // MARK: - Huge pages

  /// Says that all of these pages are about to be stored: where they make up whole huge pages of a memory file they get
  /// one when the first of them is stored. No page gets memory by it that is not among them.
  ///
  /// A page that is given back later takes its part of the huge page with it, unless another part is in use by a device or a
  /// pipe at that moment: then it reads as zeros, and its memory stays.
  /// - Parameter ranges: whole pages, rising and not overlapping.
  public func expect(_ ranges: [GuestRange]) {
    let memory = memory
    hugeStretches.withLock { (stretches) in
      stretches.want(ranges) { (stretch) in memory.regions.contains { $0.canHaveHugePage(at: stretch) } }
    }
  }

  /// What was expected and has not been stored gets small pages, as all that is expected from now on.
  public func expectNoMore() { hugeStretches.withLock { $0.wantNothing() } }

  /// Whether huge pages may still be got.
  public var expectsMore: Bool { hugeStretches.withLock { $0.wantsAny } }

  /// Gets the huge pages that a range needs, if it was expected.
  /// - Returns: whether to store in place costs no more, as all of it lies in huge pages got by this, or is the only way left.
  public func takeHugePages(for range: GuestRange) -> Bool {
    HugeStretches.all(range) { takeHugePage(at: $0) }
  }

  private func takeHugePage(at start: UInt64) -> Bool {
    while let next = hugeStretches.withLock({ $0.claimNext(after: start) }) { _ = makeClaimed(next) }
    guard let claim = hugeStretches.wait(on: decided, for: { $0.claim(start) }) else { return false }
    return claim == .wanted ? makeClaimed(start) : claim == .huge
  }

  private func makeClaimed(_ start: UInt64) -> Bool {
    let began = MonotonicClock.now
    let isHuge = makeHuge(GuestRange(start: GuestAddress(start), byteCount: HugeStretches.byteCount))
    let time = MonotonicClock.now - began
    hugeStretches.withLock { $0.decide(start, isHuge: isHuge, after: time) }
    decided.wakeAll()
    return isHuge
  }

  private func makeHuge(_ stretch: GuestRange) -> Bool {
    guard let region = memory.regions.first(where: { $0.canHaveHugePage(at: stretch) }), let file = region.file else {
      return false
    }
    let (offset, byteCount) = (region.hostOffset(of: stretch.start), Int(stretch.byteCount))
    // The kernel maps no huge page where it may have to protect small ones, but protects one that is mapped. What it does
    // not let go of it does not make huge.
    try? userfaultfd.unregister(region.mapping, at: offset, byteCount: byteCount)
    let isHuge = region.mapping.makeHugePage(at: offset, of: file.descriptor)
    do throws(LinuxError) {
      try userfaultfd.register(region.mapping, at: offset, byteCount: byteCount, for: .writes)
      return isHuge
    } catch {
      // Here this cannot store any more, and everybody can as everywhere. The kernel has no room for more such changes.
      expectNoMore()
      return true
    }
  }

  // MARK: - Small pages

  private func storeSmall(
    _ range: GuestRange, of other: GuestMemory, _ region: MemoryRegion, at start: GuestAddress
  ) throws(GuestMemoryError) {
    let byteCount = Int(range.byteCount)
    var done = 0
    while done < byteCount {
      let rest = GuestRange(
        start: GuestAddress(range.start.rawValue + UInt64(done)), byteCount: UInt64(byteCount - done))
      let address = GuestAddress(start.rawValue + UInt64(done))
      let count = try fill(rest, of: other, region, at: address)
      done += count
      guard count == 0 else { continue }
      // There is a page already.
      let page = GuestRange(start: rest.start, byteCount: Self.pageByteCount)
      try other.copy(page, to: memory, at: address)
      done += Int(Self.pageByteCount)
    }
  }

  /// - Returns: how many bytes went before a page was in the way.
  private func fill(
    _ range: GuestRange, of other: GuestMemory, _ region: MemoryRegion, at start: GuestAddress
  ) throws(GuestMemoryError) -> Int {
    try other.withBytes(of: range) { (bytes) throws(GuestMemoryError) in
      try gettingMemory(for: GuestRange(start: start, byteCount: range.byteCount)) { () throws(LinuxError) in
        try userfaultfd.copy(bytes, to: region.mapping, at: region.hostOffset(of: start))
      }
    }
  }

  /// From now on this stores as everybody does. It takes some milliseconds for each GiB; nobody may be storing.
  public func stop() {
    expectNoMore()
    let count = registeredCount.withLock { (count) in
      defer { count = 0 }
      return count
    }
    for region in memory.regions.prefix(count) {
      // The kernel has no reason to refuse what it has registered, and with the descriptor all of it ends anyway.
      try? userfaultfd.unregister(region.mapping, at: region.mappingOffset, byteCount: Int(region.range.byteCount))
    }
  }
}

extension MemoryRegion {
  /// Whether a stretch of 2 MiB is the region's, lies in a file, and starts there and in this process as a huge page has to.
  fileprivate func canHaveHugePage(at stretch: GuestRange) -> Bool {
    guard file != nil, range.overlap(stretch) == stretch else { return false }
    let offset = hostOffset(of: stretch.start)
    return offset % Mapping.hugePageByteCount == 0 && mapping.isPlacedForHugePages
  }

  /// Whether it consists of whole pages of 4 KiB.
  fileprivate var hasSmallPages: Bool {
    backingPageByteCount == 4096 && !prefersHugePages && mappingOffset % 4096 == 0 && range.byteCount % 4096 == 0
      && range.start.rawValue % 4096 == 0
  }
}
