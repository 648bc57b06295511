import GuestRAM

/// Hands out pages of guest memory. All that it knows is in that memory: a byte a page, and a count for each kind.
public struct GuestAllocator {
  let memory: GuestMemory
  let boot: BootBlock
  let table: GuestAddress
  /// How many pages the guest has; page numbers are below.
  public let pageCount: UInt32

  /// The allocator of a guest that has booted in this memory.
  init(in memory: GuestMemory) throws(GuestError) {
    self.memory = memory
    boot = BootBlock(in: memory)
    pageCount = try Self.pageCount(of: memory)
    try boot.check(pageCount: UInt64(pageCount))
    table = GuestAddress(try boot.get(.pageTable))
  }

  /// How many pages a guest has in this memory.
  static func pageCount(of memory: GuestMemory) throws(GuestError) -> UInt32 {
    let range = GuestRange(start: memory.regions[0].range.start, byteCount: memory.byteCount)
    let (count, rest) = range.byteCount.quotientAndRemainder(dividingBy: UInt64(GuestPage.byteCount))
    guard range.start.rawValue == 0, rest == 0, count > 1, count < UInt64(UInt32.max) else {
      throw .unsuitableMemory(range)
    }
    do throws(GuestMemoryError) { try memory.check(range) } catch { throw .unsuitableMemory(range) }
    return UInt32(count)
  }

  /// Writes an empty boot block and page table into fresh memory.
  static func format(_ memory: GuestMemory) throws(GuestError) -> GuestAllocator {
    let count = try pageCount(of: memory)
    let tableByteCount = (UInt64(count) + 7) / 8 * 8
    let kernelCount = 1 + (tableByteCount + UInt64(GuestPage.byteCount) - 1) >> GuestPage.shift
    guard kernelCount < UInt64(count) else { throw .tooSmall(pageCount: UInt64(count), wanted: kernelCount + 1) }

    try memory.store(bytes: [UInt8](repeating: 0, count: GuestPage.byteCount), at: GuestAddress(0))
    let tableStart = GuestAddress(page: 1)
    try memory.store(
      bytes: [UInt8](repeating: PageKind.kernel.rawValue, count: Int(kernelCount))
        + [UInt8](repeating: PageKind.untouched.rawValue, count: Int(UInt64(count) - kernelCount))
        + [UInt8](repeating: PageKind.beyondEnd, count: Int(tableByteCount - UInt64(count))),
      at: tableStart)

    let boot = BootBlock(in: memory)
    try boot.set(.magic, BootCell.expectedMagic)
    try boot.set(.pageCount, UInt64(count))
    try boot.set(.pageTable, tableStart.rawValue)
    try boot.set(.cursor, kernelCount)
    try boot.set(.count(.kernel), kernelCount)
    try boot.set(.count(.untouched), UInt64(count) - kernelCount)
    return try GuestAllocator(in: memory)
  }
}

extension GuestAllocator {
  /// How many pages there are of a kind.
  public func count(of kind: PageKind) throws(GuestError) -> UInt64 {
    try boot.get(.count(kind))
  }

  /// How many pages can be handed out.
  public func freeCount() throws(GuestError) -> UInt64 {
    try count(of: .free) &+ count(of: .reported) &+ count(of: .untouched)
  }

  /// What a page is used for.
  public func kind(of page: UInt32) throws(GuestError) -> PageKind {
    let byte = try memory.load(UInt8.self, at: table + UInt64(page))
    guard page < pageCount, let kind = PageKind(rawValue: byte) else {
      throw .damaged(field: "kind of page \(page)", value: UInt64(byte))
    }
    return kind
  }

  /// Takes the next free page behind the one taken last, or nil when none is free.
  public func allocate(_ kind: PageKind) throws(GuestError) -> UInt32? {
    guard try freeCount() > 0 else { return nil }
    let start = UInt32(truncatingIfNeeded: try boot.get(.cursor))
    guard let page = try find(mask: PageKind.notFreeMask, equal: 0, from: start) else { return nil }
    try boot.set(.cursor, UInt64(page) + 1)
    try take(page, for: kind)
    return page
  }

  /// Takes a run of free pages, or nil when there is none that long. The search is from the start of memory.
  public func allocateRun(of count: UInt32, _ kind: PageKind) throws(GuestError) -> UInt32? {
    guard count > 0 else { return nil }
    var next: UInt32 = 0
    while let run = try nextRun(from: next, before: pageCount, longest: count, where: { $0.isFree }) {
      next = run.upperBound
      guard run.count == Int(count) else { continue }
      for page in run { try take(page, for: kind) }
      return run.lowerBound
    }
    return nil
  }

  /// Makes a page free. What was written stays in it, unless the guest poisons free pages.
  public func release(_ page: UInt32) throws(GuestError) {
    if try boot.get(.isPoisoning) != 0 { try poison(page) }
    try change(page, to: .free)
  }

  /// Gives a page another use.
  func change(_ page: UInt32, to kind: PageKind) throws(GuestError) {
    let old = try self.kind(of: page)
    guard old != kind else { return }
    try memory.store(kind.rawValue, at: table + UInt64(page))
    try boot.set(.count(old), try boot.get(.count(old)) &- 1)
    try boot.add(1, to: .count(kind))
  }

  private func take(_ page: UInt32, for kind: PageKind) throws(GuestError) {
    if try boot.get(.isPoisoning) != 0, try self.kind(of: page) != .untouched { try checkPoison(page) }
    try change(page, to: kind)
  }
}
