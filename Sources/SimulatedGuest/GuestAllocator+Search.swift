import GuestRAM

/// Finding pages by what the table says of them.
extension GuestAllocator {
  /// The first page at or behind `start`, going round once, whose kind under `mask` is `value`.
  func find(mask: UInt8, equal value: UInt8, from start: UInt32) throws(GuestError) -> UInt32? {
    let first = start < pageCount ? start : 0
    if let found = try find(mask, value, in: first..<pageCount) { return found }
    return try find(mask, value, in: 0..<first)
  }

  /// Looks at eight pages at a time.
  private func find(_ mask: UInt8, _ value: UInt8, in range: Range<UInt32>) throws(GuestError) -> UInt32? {
    let masks = UInt64(mask) &* Self.ones
    let values = UInt64(value) &* Self.ones
    var page = range.lowerBound & ~7
    // Pages before the range, in its first eight, must not match.
    var skipped = ~UInt64(0) << (8 * UInt64(range.lowerBound & 7))
    while page < range.upperBound {
      let word = try memory.load(UInt64.self, at: table + UInt64(page))
      let difference = ((word & masks) ^ values) | ~skipped
      // The lowest marked byte is the first that is zero; only marks above it can be false.
      let zeros = (difference &- Self.ones) & ~difference & (Self.ones << 7)
      if zeros != 0 {
        let found = page + UInt32(zeros.trailingZeroBitCount / 8)
        return found < range.upperBound ? found : nil
      }
      skipped = ~0
      page += 8
    }
    return nil
  }

  private static var ones: UInt64 { 0x0101_0101_0101_0101 }

  /// The first run of pages of certain kinds in a stretch of memory: at most `longest`, and it may go on after that.
  func nextRun(
    from start: UInt32, before end: UInt32, longest: UInt32, where matches: (PageKind) -> Bool
  ) throws(GuestError) -> Range<UInt32>? {
    let isWanted = (0...UInt8.max).map { byte in PageKind(rawValue: byte).map(matches) ?? false }
    var first: UInt32?
    var page = start
    while page < min(end, pageCount) {
      let kinds = try kinds(from: page, count: min(Self.chunk, min(end, pageCount) - page))
      for kind in kinds {
        if isWanted[Int(kind)] {
          let begin = first ?? page
          first = begin
          if page - begin + 1 == longest { return begin..<(page + 1) }
        } else if let first {
          return first..<page
        }
        page += 1
      }
    }
    return first.map { $0..<page }
  }

  /// How many pages are looked at with one access.
  private static var chunk: UInt32 { 1024 }

  /// The table's bytes for some pages.
  func kinds(from page: UInt32, count: UInt32) throws(GuestError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Int(count))
    try memory.load(into: &bytes, at: table + UInt64(page))
    return bytes
  }
}

/// Filling free pages with a value, and finding out that somebody has changed them (5.5.6.6).
extension GuestAllocator {
  func poison(_ page: UInt32) throws(GuestError) {
    try memory.store(bytes: try poisonedPage(), at: GuestAddress(page: page))
  }

  /// A page that lost its poison is counted; `Guest.checkIntegrity` reports it.
  func checkPoison(_ page: UInt32) throws(GuestError) {
    var bytes = [UInt8](repeating: 0, count: GuestPage.byteCount)
    try memory.load(into: &bytes, at: GuestAddress(page: page))
    guard bytes != (try poisonedPage()) else { return }
    try boot.add(1, to: .counter(.poisonLosses))
    try boot.set(.counter(.poisonLostAt), GuestAddress(page: page).rawValue)
  }

  private func poisonedPage() throws(GuestError) -> [UInt8] {
    let value = UInt32(truncatingIfNeeded: try boot.get(.poison))
    var page = [UInt8](littleEndian: value)
    while page.count < GuestPage.byteCount { page += page }
    return page
  }
}
