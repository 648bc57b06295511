import GuestRAM

/// Where in a file the bytes of each page are that a guest had last.
///
/// It takes eight bytes for each page of the guest, and some fifty for each frame that still has a page to give: there
/// are never more than two for each page.
struct SavedIndex {
  /// The data of one frame, which is read and checked as a whole.
  struct Frame {
    /// Where its data is in the file.
    let offset: UInt64
    let byteCount: UInt32
    /// What it says of its data: the address of the first page and the digest of all.
    let start: UInt64
    let digest: UInt64
    /// The numbers of its first page and its last.
    let pages: ClosedRange<Int>

    /// Where in its data a page is, if it has the page.
    func position(of place: UInt64) -> Int? {
      let position = place &- offset
      return position < UInt64(byteCount) ? Int(position) : nil
    }
  }

  private let regions: [GuestRange]
  /// The number of each region's first page: pages are counted through all regions.
  private let firstPages: [Int]
  let pageCount: Int
  /// Where in the file each page is; 0 for one that is zero, or that nobody has to look for any more.
  private var places: [UInt64]
  /// How many pages of each block have a place, so that those without any are passed over.
  private var blockCounts: [UInt16]
  private static let blockPageCount = 512
  /// In the order of the file.
  private(set) var frames: [Frame] = []
  /// How many pages have a place.
  private(set) var count = 0

  init(_ regions: [GuestRange]) {
    self.regions = regions
    var (firstPages, sum) = ([Int](), 0)
    for region in regions {
      firstPages.append(sum)
      sum += Int(region.byteCount / GuestPage.byteCount)
    }
    self.firstPages = firstPages
    pageCount = sum
    places = [UInt64](repeating: 0, count: sum)
    blockCounts = [UInt16](repeating: 0, count: sum / Self.blockPageCount + 1)
  }

  // MARK: - What is where

  /// The number of the page at an address of the guest.
  func page(at address: GuestAddress) -> Int? {
    guard let region = regions.lastIndex(where: { $0.start <= address }) else { return nil }
    let offset = address.rawValue - regions[region].start.rawValue
    return offset < regions[region].byteCount ? firstPages[region] + Int(offset / GuestPage.byteCount) : nil
  }

  /// Where the guest has a page.
  func address(of page: Int) -> GuestAddress {
    let region = firstPages.lastIndex { $0 <= page } ?? 0
    return GuestAddress(regions[region].start.rawValue + UInt64(page - firstPages[region]) * GuestPage.byteCount)
  }

  /// The first page from a number on that has a place.
  func nextPage(from page: Int) -> Int? {
    var page = page
    while page < pageCount {
      if places[page] != 0 { return page }
      let block = page / Self.blockPageCount
      page = blockCounts[block] == 0 ? (block + 1) * Self.blockPageCount : page + 1
    }
    return nil
  }

  /// The frame that has a page's bytes; nil for a page without a place.
  func frame(of page: Int) -> Frame? {
    places[page] == 0 ? nil : frames[frameIndex(of: places[page])]
  }

  /// Frames rise with the file, and every place is in one.
  private func frameIndex(of place: UInt64) -> Int {
    var (low, high) = (0, frames.count)
    while low < high {
      let middle = (low + high) / 2
      if frames[middle].offset <= place { low = middle + 1 } else { high = middle }
    }
    return low - 1
  }

  /// Hands out the pages that a frame still has to give, as stretches that follow each other in its data and in a region:
  /// the first page's number, how many they are, and where in the data they start.
  func forEachStretch<E: Error>(
    of frame: Frame, _ body: (_ page: Int, _ count: Int, _ position: Int) throws(E) -> Void
  ) throws(E) {
    var page = frame.pages.lowerBound
    while page <= frame.pages.upperBound {
      guard let position = frame.position(of: places[page]) else {
        page += 1
        continue
      }
      var end = page + 1
      while end <= frame.pages.upperBound, !firstPages.contains(end),
        frame.position(of: places[end]) == position + (end - page) * Int(GuestPage.byteCount)
      { end += 1 }
      try body(page, end - page, position)
      page = end
    }
  }

  // MARK: - Changes

  /// Notes that a frame has the bytes of these pages, whatever had them before.
  mutating func add(_ pages: PageFrame, at offset: Int, start: UInt64, digest: UInt64) {
    guard let first = pages.runs.first, let last = pages.runs.last, let low = page(at: first.start),
      let high = page(at: last.start)
    else { return }
    frames.append(
      Frame(
        offset: UInt64(offset), byteCount: UInt32(pages.byteCount), start: start, digest: digest,
        pages: low...high + Int(last.pageCount) - 1))
    var place = UInt64(offset)
    for run in pages.runs {
      guard let page = page(at: run.start) else { continue }
      for page in page..<page + Int(run.pageCount) {
        set(page, to: place)
        place += GuestPage.byteCount
      }
    }
    if frames.count > 2 * pageCount + 16 { dropEmptyFrames() }
  }

  /// Nobody has to look for these pages in the file: they are zero, or where they belong. The range is of whole pages.
  mutating func clear(_ range: GuestRange) {
    for region in regions {
      guard let part = region.overlap(range), let first = page(at: part.start) else { continue }
      clear(first..<first + Int(part.byteCount / GuestPage.byteCount))
    }
  }

  mutating func clear(_ pages: Range<Int>) {
    var page = pages.lowerBound
    while page < pages.upperBound, count > 0 {
      let end = min(pages.upperBound, (page / Self.blockPageCount + 1) * Self.blockPageCount)
      if blockCounts[page / Self.blockPageCount] > 0 {
        for page in page..<end { set(page, to: 0) }
      }
      page = end
    }
  }

  private mutating func set(_ page: Int, to place: UInt64) {
    let change = (place == 0 ? 0 : 1) - (places[page] == 0 ? 0 : 1)
    count += change
    blockCounts[page / Self.blockPageCount] = UInt16(Int(blockCounts[page / Self.blockPageCount]) + change)
    places[page] = place
  }

  /// Lets go of frames whose pages have all come again since.
  private mutating func dropEmptyFrames() {
    var isUsed = [Bool](repeating: false, count: frames.count)
    for place in places where place != 0 { isUsed[frameIndex(of: place)] = true }
    frames = zip(frames, isUsed).filter(\.1).map(\.0)
  }
}
