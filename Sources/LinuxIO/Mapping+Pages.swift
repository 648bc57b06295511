import CLinux
import Glibc

extension Mapping {
  /// The address of a byte, as the kernel's interfaces for other people's memory have it.
  func address(of offset: Int) -> UInt64 {
    unsafe UInt64(UInt(bitPattern: base + offset))
  }

  /// Where an address stands in the mapping, in bytes; nil for one outside.
  func offset(of address: UInt64) -> Int? {
    let offset = address &- self.address(of: 0)
    return offset < UInt64(byteCount) ? Int(offset) : nil
  }

  /// Gives the memory behind whole pages back to the kernel; they read as zeros afterwards.
  ///
  /// A shared mapping's pages are freed in its file, for everybody who maps it. (`MADV_DONTNEED` would only forget this
  /// process's view of them and free nothing.)
  /// - Parameters:
  ///   - offset: in bytes, a multiple of the page size.
  ///   - byteCount: a multiple of the page size.
  public func discard(at offset: Int, byteCount: Int) throws(LinuxError) {
    precondition(offset >= 0 && byteCount >= 0 && byteCount <= self.byteCount - offset)
    willDiscard(offset..<offset + byteCount)
    // After a failure too: the kernel may have come half the way.
    defer { didDiscard(offset..<offset + byteCount) }
    try giveBack(at: offset, byteCount: byteCount)
  }

  /// Makes whole pages present and writable at once, as a store into each would.
  ///
  /// Memory that cannot be had is an error here (`ENOMEM`, `EFAULT`), and not the signal that a store would meet.
  /// - Parameters:
  ///   - offset: in bytes, a multiple of the page size.
  ///   - byteCount: a multiple of the page size.
  /// - Returns: false when the kernel does not know the request (before Linux 5.14).
  public func populate(at offset: Int, byteCount: Int) throws(LinuxError) -> Bool {
    precondition(offset >= 0 && byteCount >= 0 && byteCount <= self.byteCount - offset)
    do {
      _ = try retrying("madvise") { unsafe madvise(base + offset, byteCount, Int32(MADV_POPULATE_WRITE)) }
      return true
    } catch {
      if error.number == EINVAL { return false }
      throw error
    }
  }

  /// Has the kernel use huge pages from now on where it has them. `EINVAL` is thrown by one that knows none.
  public func preferHugePages() throws(LinuxError) {
    _ = try retrying("madvise") { unsafe madvise(base, byteCount, Int32(MADV_HUGEPAGE)) }
  }

  /// The first stretch of pages in memory or swap from `start` on, in bytes, or nil when there is none before `end`.
  ///
  /// It knows what this process has touched, and so all of memory that nobody else has. It reads the kernel's page map and
  /// none of the pages. Where there is swap, pages that are protected by a `Userfaultfd` count, present or not.
  public func nextPresent(from start: Int, before end: Int) throws(LinuxError) -> Range<Int>? {
    let pageByteCount = 4096
    let map = try FileDescriptor(
      owning: retrying("open(/proc/self/pagemap)") {
        unsafe open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)
      })
    var entries = [UInt64](repeating: 0, count: 8192)
    let hasSwap = Self.hasSwap
    var first: Int?
    var page = start / pageByteCount
    let last = (end + pageByteCount - 1) / pageByteCount
    while page < last {
      let count = min(entries.count, last - page)
      let offset = unsafe (Int(bitPattern: base) / pageByteCount + page) * 8
      let got = try retrying("pread(/proc/self/pagemap)") {
        unsafe pread(map.rawValue, &entries, count * 8, offset)
      }
      guard got > 0 else { throw LinuxError(call: "pread(/proc/self/pagemap)", number: EIO) }
      for index in 0..<(got / 8) {
        let isPresent = Self.isPresent(entries[index], swap: hasSwap)
        if isPresent, first == nil { first = (page + index) * pageByteCount }
        if !isPresent, let first { return first..<((page + index) * pageByteCount) }
      }
      page += got / 8
    }
    return first.map { max($0, start)..<end }
  }

  /// Whether this process has all of these pages in its map: those of a file are in the file then, and if not they may be.
  public func isPresent(_ bytes: Range<Int>) throws(LinuxError) -> Bool {
    let map = try FileDescriptor.open("/proc/self/pagemap")
    var page = bytes.lowerBound / 4096
    let last = (bytes.upperBound + 4095) / 4096
    var entries = [UInt64](repeating: 0, count: min(4096, last - page))
    while page < last {
      let count = min(entries.count, last - page)
      let offset = unsafe (Int(bitPattern: base) / 4096 + page) * 8
      let got = try retrying("pread(/proc/self/pagemap)") {
        unsafe pread(map.rawValue, &entries, count * 8, offset)
      }
      guard got > 0, entries[..<(got / 8)].allSatisfy({ $0 >> 63 != 0 }) else { return false }
      page += got / 8
    }
    return true
  }

  /// Bits 63 and 62 of a page map's entry: the page is in memory, or in swap. The latter is also said of a page that is not
  /// there and protected (bit 57); a machine without swap can tell the difference.
  private static func isPresent(_ entry: UInt64, swap hasSwap: Bool) -> Bool {
    entry >> 63 != 0 || entry >> 62 & 1 != 0 && (hasSwap || entry >> 57 & 1 == 0)
  }

  private static var hasSwap: Bool {
    var info = sysinfo()
    return unsafe sysinfo(&info) != 0 || info.totalswap != 0
  }
}
