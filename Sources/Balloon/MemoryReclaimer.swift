public import GuestRAM

/// Gives pages back to the host by discarding them. Host pages larger than 4 KiB go back when all of one is given up.
///
/// Which parts of large host pages are given up belongs to this host's memory and is not part of the device's state:
/// after a migration a page counts as given up only from its next inflation on.
public struct MemoryReclaimer: PageReclaimer {
  private var backing: BackingPages?
  /// The map that `backing` was last used with.
  private weak var memory: GuestMemory?
  private var shapes: [Shape] = []

  /// What `backing` depends on.
  private struct Shape: Equatable {
    let range: GuestRange
    let pageByteCount: Int
  }

  public init() {}

  public mutating func giveUp(_ range: GuestRange, of memory: GuestMemory) throws(GuestMemoryError) -> UInt64 {
    follow(memory)
    var byteCount: UInt64 = 0
    try backing?.giveUp(range) { (part) throws(GuestMemoryError) in
      try memory.discard(part)
      byteCount += part.byteCount
    }
    return byteCount
  }

  public mutating func release(_ range: GuestRange, of memory: GuestMemory) throws(GuestMemoryError) -> UInt64 {
    var byteCount: UInt64 = 0
    for region in memory.regions {
      guard let part = region.range.overlap(range), let whole = region.backingPages(in: part) else { continue }
      try memory.discard(whole)
      byteCount += whole.byteCount
    }
    return byteCount
  }

  public mutating func takeBack(_ range: GuestRange, of memory: GuestMemory) {
    follow(memory)
    backing?.takeBack(range)
  }

  public mutating func reset() {
    backing = nil
    memory = nil
  }

  /// Keeps what is known when the same regions come in a new map, as they do when a dirty log is attached.
  private mutating func follow(_ memory: GuestMemory) {
    if self.memory === memory { return }
    let shapes = memory.regions.map { Shape(range: $0.range, pageByteCount: $0.backingPageByteCount) }
    if backing == nil || shapes != self.shapes { backing = BackingPages(of: memory) }
    self.shapes = shapes
    self.memory = memory
  }
}

extension MemoryRegion {
  /// The whole backing pages inside a part of the region, or nil when there is none.
  func backingPages(in part: GuestRange) -> GuestRange? {
    let page = UInt64(backingPageByteCount)
    let offset = fileOffset + (part.start.rawValue - range.start.rawValue)
    let before = (page - offset % page) % page
    guard part.byteCount > before else { return nil }
    let byteCount = (part.byteCount - before) / page * page
    guard byteCount > 0 else { return nil }
    return GuestRange(start: GuestAddress(part.start.rawValue + before), byteCount: byteCount)
  }
}
