import GuestRAM

/// The pages of a guest that one side still has to send or the other to get.
struct OutstandingPages: Sendable {
  private let regions: [GuestRange]
  private var marks: [PageMarks]
  /// How many there are.
  private(set) var count: UInt64 = 0

  /// None of them.
  init(_ regions: [GuestRange]) {
    self.regions = regions
    marks = regions.map { PageMarks(pageCount: Int($0.byteCount / GuestPage.byteCount)) }
  }

  /// None of the pages of the same memory.
  var emptied: OutstandingPages { OutstandingPages(regions) }

  /// Adds pages that lie in one region; those that are there already stay.
  mutating func insert(_ range: GuestRange) throws(MigrationError) {
    guard let (region, pages) = pages(of: range) else {
      throw .misplacedPages(range.start, pageCount: range.byteCount / GuestPage.byteCount)
    }
    count += UInt64(pages.count - marks[region].count(in: pages))
    marks[region].insert(pages)
  }

  /// Takes pages away that lie in one region, all of which have to be there.
  mutating func remove(_ range: GuestRange) throws(MigrationError) {
    guard let (region, pages) = pages(of: range), marks[region].count(in: pages) == pages.count else {
      throw .unplannedPages(range.start)
    }
    marks[region].remove(pages)
    count -= UInt64(pages.count)
  }

  /// Whether the page is one of them.
  func contains(_ page: GuestAddress) -> Bool {
    containsAll(of: GuestRange(start: page, byteCount: GuestPage.byteCount))
  }

  /// Whether all pages of the range are.
  func containsAll(of range: GuestRange) -> Bool {
    guard let (region, pages) = pages(of: range) else { return false }
    return marks[region].count(in: pages) == pages.count
  }

  /// The first of them from an address on, and those that follow it without a gap.
  /// - Parameter most: no more pages than these, at least 1.
  func run(from address: GuestAddress, most: Int) -> GuestRange? {
    for (index, region) in regions.enumerated() {
      let start = max(address.rawValue, region.start.rawValue) - region.start.rawValue
      guard start < region.byteCount,
        let run = marks[index].run(from: Int(start / GuestPage.byteCount), upTo: most)
      else { continue }
      return GuestRange(
        start: GuestAddress(region.start.rawValue + UInt64(run.lowerBound) * GuestPage.byteCount),
        byteCount: UInt64(run.count) * GuestPage.byteCount)
    }
    return nil
  }

  /// All of them, in rising order, in runs of one region each.
  func forEachRun<E: Error>(_ body: (PageRun) throws(E) -> Void) throws(E) {
    var next = GuestAddress(0)
    while let range = run(from: next, most: 1 << 20) {
      try body(PageRun(start: range.start, pageCount: UInt32(range.byteCount / GuestPage.byteCount), isZero: false))
      guard let end = range.end else { return }
      next = end
    }
  }

  private func pages(of range: GuestRange) -> (region: Int, pages: Range<Int>)? {
    let mask = GuestPage.byteCount - 1
    guard range.byteCount > 0, (range.start.rawValue | range.byteCount) & mask == 0 else { return nil }
    let region = regions.firstIndex {
      range.start.rawValue >= $0.start.rawValue && range.start.rawValue - $0.start.rawValue < $0.byteCount
    }
    guard let region else { return nil }
    let offset = range.start.rawValue - regions[region].start.rawValue
    guard range.byteCount <= regions[region].byteCount - offset else { return nil }
    return (region, Int(offset / GuestPage.byteCount)..<Int((offset + range.byteCount) / GuestPage.byteCount))
  }
}
