/// Pages of a stretch of memory, one bit each, whose marks are taken in runs.
package struct PageMarks: Sendable {
  private var words: [UInt64]
  private let pageCount: Int

  /// No marks.
  package init(pageCount: Int) {
    self.pageCount = pageCount
    words = [UInt64](repeating: 0, count: (pageCount + 63) / 64)
  }

  package mutating func insert(_ pages: Range<Int>) {
    Self.forEachWord(of: pages) { words[$0] |= $1 }
  }

  package mutating func remove(_ pages: Range<Int>) {
    Self.forEachWord(of: pages) { words[$0] &= ~$1 }
  }

  func isMarked(_ page: Int) -> Bool {
    words[page / 64] >> UInt64(page % 64) & 1 != 0
  }

  /// How many of these pages are marked.
  package func count(in pages: Range<Int>) -> Int {
    var count = 0
    Self.forEachWord(of: pages) { count += (words[$0] & $1).nonzeroBitCount }
    return count
  }

  /// The next marked pages that follow each other, at most so many; nil when there are none from `start` on.
  package func run(from start: Int, upTo most: Int) -> Range<Int>? {
    guard let first = firstPage(from: start, in: { words[$0] }) else { return nil }
    let end = firstPage(from: first, in: { ~words[$0] }) ?? pageCount
    return first..<min(end, pageCount, first + most)
  }

  /// The first page from `start` on whose bit is set in its word.
  private func firstPage(from start: Int, in bits: (Int) -> UInt64) -> Int? {
    guard start < pageCount else { return nil }
    // Bits before the start are of no interest in its word.
    var index = start / 64
    var word = bits(index) & (.max << UInt64(start % 64))
    while word == 0 {
      index += 1
      guard index < words.count else { return nil }
      word = bits(index)
    }
    return index * 64 + word.trailingZeroBitCount
  }

  /// The words that pages are in, and the pages' bits in each.
  private static func forEachWord(of pages: Range<Int>, _ body: (Int, UInt64) -> Void) {
    var page = pages.lowerBound
    while page < pages.upperBound {
      let end = min(pages.upperBound, (page / 64 + 1) * 64)
      body(page / 64, (.max >> UInt64(64 - (end - page))) << UInt64(page % 64))
      page = end
    }
  }
}
