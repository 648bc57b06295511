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

  /// Puts one huge page behind 2 MiB of a file that lives in memory, with what they hold (`MADV_COLLAPSE`, Linux 6.1), for
  /// everybody who maps them, and whatever the file system would do by itself. It costs a tenth of 512 pages touched one by
  /// one.
  ///
  /// - Parameters:
  ///   - offset: in bytes; its place in the file and its address are multiples of 2 MiB (`isPlacedForHugePages`).
  ///   - file: what is mapped.
  /// - Returns: false when it cannot be had. Whatever was there is there, and one page may have been added.
  public func makeHugePage(at offset: Int, of file: borrowing FileDescriptor) -> Bool {
    precondition(offset >= 0 && offset <= byteCount - Self.hugePageByteCount)
    guard isPlacedForHugePages, (fileOffset + offset) % Self.hugePageByteCount == 0 else { return false }
    do throws(LinuxError) {
      // Where there is nothing the kernel sees nothing to make one page of; to map that little would cost more.
      try file.allocate(at: fileOffset + offset, byteCount: 4096)
      if collapse(at: offset) { return true }
      // Where this process has no page table yet the page may be huge by now, and only not mapped.
      return try populate(at: offset, byteCount: 4096) && collapse(at: offset)
    } catch {
      return false
    }
  }

  private func collapse(at offset: Int) -> Bool {
    unsafe madvise(base + offset, Self.hugePageByteCount, Int32(CLINUX_MADV_COLLAPSE)) == 0
  }

  /// Whether all pages of a stretch are in memory, whoever has put them there (`mincore`), which costs a tenth of asking about
  /// each. Of somebody else's file the kernel says so whatever is true (`FileStatus.tellsPages`).
  public func isInMemory(_ bytes: Range<Int>) throws(LinuxError) -> Bool {
    try pagesInMemory(bytes).allSatisfy { $0 & 1 == 1 }
  }

  /// What `mincore` says of each page of a stretch, in the lowest bit: of a file's pages whether the file has them in memory,
  /// of others whether this process has.
  func pagesInMemory(_ bytes: Range<Int>) throws(LinuxError) -> [UInt8] {
    precondition(bytes.lowerBound >= 0 && bytes.upperBound <= (byteCount + 4095) & ~4095)
    let start = bytes.lowerBound & ~4095
    var pages = [UInt8](repeating: 0, count: (bytes.upperBound - start + 4095) / 4096)
    _ = try retrying("mincore") { unsafe mincore(base + start, bytes.upperBound - start, &pages) }
    return pages
  }

  /// `PageMap.nextPresent` of this mapping, for whoever asks once.
  public func nextPresent(from start: Int, before end: Int) throws(LinuxError) -> Range<Int>? {
    try PageMap().nextPresent(in: self, from: start, before: end)
  }
}
