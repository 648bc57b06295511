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

  /// `PageMap.nextPresent` of this mapping, for whoever asks once.
  public func nextPresent(from start: Int, before end: Int) throws(LinuxError) -> Range<Int>? {
    try PageMap().nextPresent(in: self, from: start, before: end)
  }
}
