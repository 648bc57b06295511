import GuestRAM

/// Which pages have been named in a pass by any of several connections: each may be once.
struct PageClaims {
  private let regions: [GuestRange]
  /// A bit for each page of each region.
  private var words: [[UInt64]]

  init(_ regions: [GuestRange]) {
    self.regions = regions
    words = regions.map { [UInt64](repeating: 0, count: Int(($0.byteCount / GuestPage.byteCount + 63) / 64)) }
  }

  /// Another pass begins.
  mutating func removeAll() {
    self = PageClaims(regions)
  }

  /// Notes runs that each lie in a region. After an error some of them are noted.
  mutating func claim(_ runs: [PageRun]) throws(MigrationError) {
    for run in runs {
      guard let index = regions.firstIndex(where: { $0.overlap(run.range) == run.range }),
        claim(run.range, in: index)
      else { throw .misplacedPages(run.start, pageCount: UInt64(run.pageCount)) }
    }
  }

  private mutating func claim(_ range: GuestRange, in index: Int) -> Bool {
    var page = (range.start.rawValue - regions[index].start.rawValue) / GuestPage.byteCount
    let end = page + range.byteCount / GuestPage.byteCount
    while page < end {
      let count = min(64 - page % 64, end - page)
      let mask = (count == 64 ? UInt64.max : (1 << count) - 1) << (page % 64)
      guard words[index][Int(page / 64)] & mask == 0 else { return false }
      words[index][Int(page / 64)] |= mask
      page += count
    }
    return true
  }
}
