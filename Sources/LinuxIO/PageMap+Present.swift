import CLinux
import Glibc

/// Which pages are there. None of them is read for it.
extension PageMap {
  private static let pageByteCount = 4096
  /// How many pages are asked about in a call.
  private static let mostEntries = 8192

  /// The first stretch of pages in memory or swap from `start` on, in bytes, or nil when there is none before `end`.
  ///
  /// It knows what this process has touched, and so all of memory that nobody else has. Where there is swap, pages that
  /// are protected by a `Userfaultfd` count, present or not.
  public func nextPresent(in mapping: Mapping, from start: Int, before end: Int) throws(LinuxError) -> Range<Int>? {
    let hasSwap = Self.hasSwap
    var first: Int?
    var entries: [UInt64] = []
    var page = start / Self.pageByteCount
    let last = (end + Self.pageByteCount - 1) / Self.pageByteCount
    while page < last {
      let count = try read(&entries, of: mapping, page..<last)
      if !hasSwap { try tellMovedPages(&entries, count, of: mapping, from: page) }
      for index in 0..<count {
        let isPresent = Self.isPresent(entries[index], swap: hasSwap)
        if isPresent, first == nil { first = (page + index) * Self.pageByteCount }
        if !isPresent, let first { return first..<((page + index) * Self.pageByteCount) }
      }
      page += count
    }
    return first.map { max($0, start)..<end }
  }

  /// Whether this process has all pages of some bytes of a mapping in its map: those of a file are in the file then, and
  /// if not they may be.
  public func isPresent(_ bytes: Range<Int>, of mapping: Mapping) throws(LinuxError) -> Bool {
    var entries: [UInt64] = []
    var page = bytes.lowerBound / Self.pageByteCount
    let last = (bytes.upperBound + Self.pageByteCount - 1) / Self.pageByteCount
    while page < last {
      let count = try read(&entries, of: mapping, page..<last)
      guard entries[..<count].allSatisfy({ $0 >> 63 != 0 }) else { return false }
      page += count
    }
    return true
  }

  /// Reads the entries of the first of these pages.
  /// - Returns: how many they are: at least one.
  private func read(_ entries: inout [UInt64], of mapping: Mapping, _ pages: Range<Int>) throws(LinuxError) -> Int {
    let count = min(Self.mostEntries, pages.count)
    if entries.count < count { entries = [UInt64](repeating: 0, count: count) }
    let number = descriptor.rawValue
    let offset = (Int(mapping.address(of: 0)) / Self.pageByteCount + pages.lowerBound) * 8
    let byteCount = try retrying("pread(/proc/self/pagemap)") {
      unsafe pread(number, &entries, count * 8, offset)
    }
    guard byteCount >= 8 else { throw LinuxError(call: "pread(/proc/self/pagemap)", number: EIO) }
    return byteCount / 8
  }

  /// Has the entries of pages say present that the kernel is moving from one place in memory to another.
  private func tellMovedPages(
    _ entries: inout [UInt64], _ count: Int, of mapping: Mapping, from page: Int
  ) throws(LinuxError) {
    guard entries[..<count].contains(where: Self.mayBeMoved) else { return }
    // After the entries: a page that has arrived by now is there too.
    let pages = try mapping.pagesInMemory(page * Self.pageByteCount..<(page + count) * Self.pageByteCount)
    Self.tellMovedPages(&entries, inMemory: pages)
  }

  /// - Parameter pages: what `mincore` has said since of as many pages as it was asked about.
  static func tellMovedPages(_ entries: inout [UInt64], inMemory pages: [UInt8]) {
    for (index, page) in pages.enumerated() where page & 1 == 1 && mayBeMoved(entries[index]) {
      entries[index] |= 1 << 63
    }
  }

  /// Whether an entry says protected (bit 57) and in swap (62), which it does on a machine without swap of a page that is
  /// not there, and, while the kernel moves it, of one that is.
  static func mayBeMoved(_ entry: UInt64) -> Bool { entry >> 62 == 1 && entry >> 57 & 1 == 1 }

  /// Bits 63 and 62 of a page map's entry: the page is in memory, or in swap. The latter is also said of a page that is not
  /// there and protected; a machine without swap can tell the difference.
  static func isPresent(_ entry: UInt64, swap hasSwap: Bool) -> Bool {
    entry >> 63 != 0 || entry >> 62 & 1 != 0 && (hasSwap || !mayBeMoved(entry))
  }

  private static var hasSwap: Bool {
    var info = sysinfo()
    return unsafe sysinfo(&info) != 0 || info.totalswap != 0
  }
}
