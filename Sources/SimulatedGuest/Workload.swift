public import DeviceState
import GuestRAM

/// What the guest's programs do with its memory.
public enum Workload: String, CaseIterable, Sendable, StateValue {
  /// Nothing, but for the RAM disk's own writes.
  case idle
  /// Reads files and keeps them cached for as long as nobody wants the memory.
  case pageCache = "page-cache"
  /// Rewrites a working set, again and again.
  case dirtying
  /// Allocates up to a bound, frees most of it, and begins again.
  case pressure
}

/// One turn of the workload.
extension Guest {
  mutating func work() throws(GuestError) {
    switch registers.workload {
    case .idle: break
    case .pageCache: try readFiles()
    case .dirtying: try dirty()
    case .pressure: try press()
    }
    if random.below(8) == 0 { try rewriteDisk() }
  }

  /// Reads on where it was; now and then a page that was read before.
  private mutating func readFiles() throws(GuestError) {
    let cache = supply.cache
    guard cache.capacity > 0 else { return }
    for _ in 0..<registers.pagesPerStep {
      var number = UInt32(truncatingIfNeeded: registers.position % UInt64(cache.capacity))
      if random.below(8) == 0 {
        number = UInt32(truncatingIfNeeded: random.below(UInt64(try cache.highWater())))
      } else {
        registers.position &+= 1
      }
      guard try cache.entry(number) == nil else { continue }
      guard let page = try supply.page(for: .cache) else { return }
      try fill(cache, number, page, generation: 0)
      try allocator.boot.add(1, to: .counter(.majorFaults))
    }
  }

  private mutating func dirty() throws(GuestError) {
    let set = workingSet
    guard set.capacity > 0 else { return }
    for _ in 0..<registers.pagesPerStep {
      let number = UInt32(truncatingIfNeeded: registers.position % UInt64(set.capacity))
      guard try rewrite(set, number) else { return try starve(set) }
      registers.position &+= 1
    }
  }

  /// Grows to the bound, then lets go of three quarters.
  private mutating func press() throws(GuestError) {
    let set = anonymous
    guard set.capacity > 0 else { return }
    for _ in 0..<registers.pagesPerStep {
      let number = UInt32(truncatingIfNeeded: registers.position % UInt64(set.capacity))
      guard try rewrite(set, number) else { return try starve(set) }
      registers.position &+= 1
      if number == set.capacity - 1 {
        _ = try set.dropNext(UInt64(set.capacity) / 4 * 3)
        return
      }
    }
  }

  /// Writes a page anew, in place or in a page of its own; false when there is no memory for one.
  private mutating func rewrite(_ set: PageCollection, _ number: UInt32) throws(GuestError) -> Bool {
    if let entry = try set.entry(number) {
      try fill(set, number, entry.page, generation: entry.generation &+ 1)
      return true
    }
    guard let page = try supply.page(for: set.kind) else { return false }
    try fill(set, number, page, generation: 0)
    try allocator.boot.add(1, to: .counter(.minorFaults))
    return true
  }

  /// No memory: waits for the balloon if it will give some, or is killed and begins anew.
  private mutating func starve(_ set: PageCollection) throws(GuestError) {
    let isComing = try balloon?.deflateOnOOM() ?? false
    let isAway = try allocator.count(of: .reporting) > 0
    if isComing || isAway {
      return try allocator.boot.add(1, to: .counter(.allocationStalls))
    }
    try allocator.boot.add(1, to: .counter(.oomKills))
    _ = try set.dropNext(.max)
    registers.position = 0
  }

  private mutating func rewriteDisk() throws(GuestError) {
    let number = UInt32(truncatingIfNeeded: random.below(UInt64(disk.capacity)))
    guard let entry = try disk.entry(number) else { return }
    try fill(disk, number, entry.page, generation: entry.generation &+ 1)
  }

  /// Writes a page's content, and then says in the table that it is there.
  func fill(_ set: PageCollection, _ number: UInt32, _ page: UInt32, generation: UInt32) throws(GuestError) {
    let content = PageContent(owner: set.name, number: number, generation: generation)
    try memory.store(bytes: content.bytes(seed: seed), at: GuestAddress(page: page))
    try set.setEntry(number, page: page, generation: generation)
  }
}
