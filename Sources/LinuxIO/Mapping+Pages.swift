import Glibc

extension Mapping {
  /// Gives the memory behind whole pages back to the kernel; they read as zeros afterwards.
  ///
  /// A shared mapping's pages are freed in its file, for everybody who maps it. (`MADV_DONTNEED` would only forget this
  /// process's view of them and free nothing.)
  /// - Parameters:
  ///   - offset: in bytes, a multiple of the page size.
  ///   - byteCount: a multiple of the page size.
  public func discard(at offset: Int, byteCount: Int) throws(LinuxError) {
    precondition(offset >= 0 && byteCount >= 0 && byteCount <= self.byteCount - offset)
    let advice = isShared ? MADV_REMOVE : MADV_DONTNEED
    _ = try retrying("madvise") { unsafe madvise(base + offset, byteCount, Int32(advice)) }
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

  /// The first stretch of pages in memory or swap from `start` on, in bytes, or nil when there is none before `end`.
  ///
  /// It knows what this process has touched, and so all of memory that nobody else has. It reads the kernel's page map and
  /// none of the pages.
  public func nextPresent(from start: Int, before end: Int) throws(LinuxError) -> Range<Int>? {
    let pageByteCount = 4096
    let map = try FileDescriptor(
      owning: retrying("open(/proc/self/pagemap)") {
        unsafe open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)
      })
    var entries = [UInt64](repeating: 0, count: 8192)
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
        // Bits 63 and 62: the page is in memory, or in swap.
        let isPresent = entries[index] >> 62 != 0
        if isPresent, first == nil { first = (page + index) * pageByteCount }
        if !isPresent, let first { return first..<((page + index) * pageByteCount) }
      }
      page += got / 8
    }
    return first.map { max($0, start)..<end }
  }
}
