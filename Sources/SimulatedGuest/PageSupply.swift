import GuestRAM

/// Where memory comes from when it is wanted: free pages first, then pages lent as hints, then clean cache.
struct PageSupply {
  let allocator: GuestAllocator
  let cache: PageCollection
  /// Free pages that the balloon leaves to the guest.
  let reserve: UInt64

  /// How many cache pages are dropped at a time.
  private static var batch: UInt64 { 32 }

  init(_ allocator: GuestAllocator) throws(GuestError) {
    self.allocator = allocator
    cache = try PageCollection(.cache, of: allocator)
    reserve = max(32, UInt64(allocator.pageCount) / 256)
  }

  /// A page, or nil when there is none to be had.
  func page(for kind: PageKind) throws(GuestError) -> UInt32? {
    if let page = try allocator.allocate(kind) { return page }
    guard try makeRoom() else { return nil }
    return try allocator.allocate(kind)
  }

  /// A page for the balloon, which drops cache but does not take the guest's last ones.
  func balloonPage() throws(GuestError) -> UInt32? {
    while try allocator.freeCount() <= reserve {
      guard try makeRoom() else { return nil }
    }
    return try allocator.allocate(.balloon)
  }

  private func makeRoom() throws(GuestError) -> Bool {
    // The driver may use hinted pages again at any moment before the device says that it is done (5.5.6.5).
    if try takeBack(.hinted, most: 256) > 0 { return true }
    return try dropCache() > 0
  }

  private func dropCache() throws(GuestError) -> UInt64 {
    let dropped = try cache.dropNext(Self.batch)
    try allocator.boot.add(dropped, to: .counter(.directScans))
    try allocator.boot.add(dropped, to: .counter(.directReclaims))
    return dropped
  }

  /// Makes pages of a kind free, and returns how many.
  func takeBack(_ kind: PageKind, most: UInt64) throws(GuestError) -> UInt64 {
    var count: UInt64 = 0
    var start: UInt32 = 0
    while count < most, try allocator.count(of: kind) > 0 {
      guard let page = try allocator.find(mask: .max, equal: kind.rawValue, from: start) else { break }
      try allocator.release(page)
      count += 1
      start = page + 1
    }
    return count
  }
}
