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
    for page in pages { words[page / 64] |= 1 << UInt64(page % 64) }
  }

  package mutating func remove(_ pages: Range<Int>) {
    for page in pages { words[page / 64] &= ~(1 << UInt64(page % 64)) }
  }

  /// The next marked pages that follow each other, at most so many; nil when there are none from `start` on.
  package func run(from start: Int, upTo most: Int) -> Range<Int>? {
    guard let first = firstMark(from: start) else { return nil }
    var end = first + 1
    while end < pageCount, end - first < most, isMarked(end) { end += 1 }
    return first..<end
  }

  package func isMarked(_ page: Int) -> Bool {
    words[page / 64] >> UInt64(page % 64) & 1 != 0
  }

  private func firstMark(from start: Int) -> Int? {
    guard start < pageCount else { return nil }
    // Marks before the start are of no interest in its word.
    var word = words[start / 64] & (.max << UInt64(start % 64))
    var index = start / 64
    while word == 0 {
      index += 1
      guard index < words.count else { return nil }
      word = words[index]
    }
    return index * 64 + word.trailingZeroBitCount
  }
}
