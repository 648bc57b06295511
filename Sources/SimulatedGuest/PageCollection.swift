import GuestRAM

/// A numbered set of pages with known content: the RAM disk, the page cache, a workload's memory.
///
/// Its table is in guest memory: 8 bytes a number, the page in the low half (0 for none) and the generation of its
/// content in the high half. Numbers at or above the high-water mark have never been used, and their part of the table
/// is never read, so that an unused table takes up no host memory.
struct PageCollection {
  enum Name: UInt64, CaseIterable {
    case disk = 0, cache, workingSet, anonymous
  }

  enum Field: UInt64 {
    case table = 0, capacity, highWater, cursor
  }

  let name: Name
  let allocator: GuestAllocator
  let table: GuestAddress
  let capacity: UInt32

  private var memory: GuestMemory { allocator.memory }
  private var boot: BootBlock { allocator.boot }

  /// The collection of a guest that has booted.
  init(_ name: Name, of allocator: GuestAllocator) throws(GuestError) {
    self.name = name
    self.allocator = allocator
    table = GuestAddress(try allocator.boot.get(.collection(name, .table)))
    let count = try allocator.boot.get(.collection(name, .capacity))
    let highWater = try allocator.boot.get(.collection(name, .highWater))
    guard count <= UInt64(UInt32.max), highWater <= count else {
      throw .damaged(field: "capacity of \(name)", value: count)
    }
    capacity = UInt32(count)
  }

  /// Sets up the table of an empty collection.
  static func format(_ name: Name, capacity: UInt32, in allocator: GuestAllocator) throws(GuestError) {
    let pages = UInt32((UInt64(capacity) * 8 + UInt64(GuestPage.byteCount) - 1) >> GuestPage.shift)
    guard pages > 0 else { return }
    guard let first = try allocator.allocateRun(of: pages, .kernel) else {
      throw .tooSmall(pageCount: UInt64(allocator.pageCount), wanted: UInt64(allocator.pageCount) + UInt64(pages))
    }
    try allocator.boot.set(.collection(name, .table), GuestAddress(page: first).rawValue)
    try allocator.boot.set(.collection(name, .capacity), UInt64(capacity))
  }

  var kind: PageKind {
    switch name {
    case .disk: .disk
    case .cache: .cache
    case .workingSet: .workingSet
    case .anonymous: .anonymous
    }
  }

  /// How many of the numbers have a page now.
  func count() throws(GuestError) -> UInt64 {
    try allocator.count(of: kind)
  }

  /// Numbers below it may have a page.
  func highWater() throws(GuestError) -> UInt32 {
    let mark = try boot.get(.collection(name, .highWater))
    guard mark <= UInt64(capacity) else { throw .damaged(field: "high-water mark of \(name)", value: mark) }
    return UInt32(mark)
  }

  /// A number's page and the generation of its content, or nil.
  func entry(_ number: UInt32) throws(GuestError) -> (page: UInt32, generation: UInt32)? {
    guard try number < highWater() else { return nil }
    let entry = try memory.load(UInt64.self, at: table + 8 &* UInt64(number))
    let page = UInt32(truncatingIfNeeded: entry)
    return page == 0 ? nil : (page, UInt32(truncatingIfNeeded: entry >> 32))
  }

  func setEntry(_ number: UInt32, page: UInt32, generation: UInt32) throws(GuestError) {
    let mark = try highWater()
    if number >= mark {
      for unused in mark..<number { try memory.store(0 as UInt64, at: table + 8 &* UInt64(unused)) }
      try boot.set(.collection(name, .highWater), UInt64(number) + 1)
    }
    try memory.store(UInt64(page) | UInt64(generation) << 32, at: table + 8 &* UInt64(number))
  }

  /// Frees a number's page. What was in it stays in memory.
  func drop(_ number: UInt32) throws(GuestError) {
    guard let entry = try entry(number) else { return }
    try setEntry(number, page: 0, generation: entry.generation)
    try allocator.release(entry.page)
  }

  /// Frees pages in the order of their numbers, going on where the last call stopped.
  ///
  /// - Returns: how many were freed: `most`, or all there were.
  func dropNext(_ most: UInt64) throws(GuestError) -> UInt64 {
    let wanted = min(most, try count())
    let mark = try highWater()
    guard mark > 0 else { return 0 }
    var number = UInt32(truncatingIfNeeded: try boot.get(.collection(name, .cursor)))
    var dropped: UInt64 = 0
    var looks: UInt64 = 0
    while dropped < wanted, looks < UInt64(mark) {
      if number >= mark { number = 0 }
      if try entry(number) != nil {
        try drop(number)
        dropped += 1
      }
      number += 1
      looks += 1
    }
    try boot.set(.collection(name, .cursor), UInt64(number))
    return dropped
  }
}
