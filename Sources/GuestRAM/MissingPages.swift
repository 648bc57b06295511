import LinuxIO
import Synchronization

/// Memory of a guest that runs while some of its pages are still elsewhere: whoever touches one that is missing waits
/// until it has been provided, and so does a system call that is given it.
///
/// Pages may be provided by any thread, asked for or not, but not by one that touches the memory itself: nobody would be
/// left to answer it. A page is there, all of it at once, or missing; one that is discarded is missing again.
public final class MissingPages: Sendable {
  private let memory: GuestMemory
  private let userfaultfd: Userfaultfd
  /// How many regions from the first on have their faults reported.
  private let registeredCount: Mutex<Int>

  /// Whether this kernel and the rights of this process allow it.
  public static var isAvailable: Bool { Userfaultfd.isAvailable }

  /// From the return on, pages that are missing are waited for.
  ///
  /// Pages that are there already stay, what they hold too; discard first what is to be missing.
  /// - Parameter memory: regions of whole backing pages. `EINVAL` is thrown for others, `EBUSY` for memory whose page
  ///   faults somebody else has.
  public init(of memory: GuestMemory) throws(GuestMemoryError) {
    self.memory = memory
    registeredCount = Mutex(0)
    userfaultfd = try system { () throws(LinuxError) in try Userfaultfd(.missingInFiles) }
    do throws(GuestMemoryError) {
      for region in memory.regions {
        try system { () throws(LinuxError) in try region.awaitPages(from: userfaultfd) }
        registeredCount.withLock { $0 += 1 }
      }
    } catch {
      stop()
      throw error
    }
  }

  deinit {
    stop()
  }

  /// The descriptor that is readable while `takeFaults` has something to tell; borrowed, for an event loop.
  public var descriptor: Int32 { userfaultfd.descriptor.rawValue }

  /// Hands out pages that somebody waits for and that have not been handed out for it: up to sixteen backing pages, in
  /// the order in which they were missed. It does not wait.
  ///
  /// A page is named once for each who waits, and perhaps again after it has been provided.
  public func takeFaults(_ body: (GuestRange) -> Void) throws(GuestMemoryError) {
    try system { () throws(LinuxError) in
      try userfaultfd.takeFaults { (fault) in
        for region in memory.regions {
          guard let page = region.page(of: fault) else { continue }
          return body(page)
        }
      }
    }
  }

  /// Puts bytes into pages that are missing, and wakes who waits for them. Pages that are there stay as they are.
  ///
  /// - Parameter start: the address, like the length a multiple of each region's backing page.
  /// - Returns: how many bytes went into pages that were missing.
  @discardableResult
  public func provide(_ bytes: Span<UInt8>, at start: GuestAddress) throws(GuestMemoryError) -> Int {
    try provide(GuestRange(start: start, byteCount: UInt64(bytes.count))) { (region, offset, part) throws(LinuxError) in
      try userfaultfd.copy(bytes.extracting(part), to: region.mapping, at: offset)
    }
  }

  /// Fills pages that are missing with zeros, and wakes who waits for them. Pages that are there stay as they are.
  ///
  /// - Parameter range: multiples of each region's backing page. Memory in files becomes resident by it.
  /// - Returns: how many bytes went into pages that were missing.
  @discardableResult
  public func provideZeros(_ range: GuestRange) throws(GuestMemoryError) -> Int {
    try provide(range) { (region, offset, part) throws(LinuxError) in
      if region.backingPageByteCount == 4096 {
        return try userfaultfd.zero(region.mapping, at: offset, byteCount: part.count)
      }
      // The kernel has no zeros for huge pages.
      let zeros = [UInt8](repeating: 0, count: region.backingPageByteCount)
      return try userfaultfd.copy(zeros.span, to: region.mapping, at: offset)
    }
  }

  /// Has a function called before each discard, with the bytes that may be about to go and be missing again; nil for
  /// nobody. The discard waits for its return.
  public func announceDiscards(_ watcher: (@Sendable (GuestRange) -> Void)?) {
    for region in memory.regions {
      guard let watcher else { region.mapping.announceDiscards(nil); continue }
      region.mapping.announceDiscards { watcher(region.guestRange(of: $0)) }
    }
  }

  /// No page is waited for any more: what has not been provided reads as zeros, for those who wait now too.
  public func stop() {
    let count = registeredCount.withLock { (count) in
      defer { count = 0 }
      return count
    }
    for region in memory.regions.prefix(count) {
      region.mapping.announceDiscards(nil)
      // The kernel has no reason to refuse what it has registered, and with the descriptor all waiting ends anyway.
      try? userfaultfd.unregister(region.mapping, at: region.mappingOffset, byteCount: Int(region.range.byteCount))
    }
  }

  /// Provides a range piece by piece.
  ///
  /// - Parameter body: provides a part, counted from the range's start, of a region, at an offset into the mapping; tells
  ///   how many bytes it has come before a page was in the way.
  private func provide(
    _ range: GuestRange, _ body: (MemoryRegion, Int, Range<Int>) throws(LinuxError) -> Int
  ) throws(GuestMemoryError) -> Int {
    var sum = 0
    try memory.checkWholePages(range)
    for region in memory.regions {
      guard let part = region.range.overlap(range) else { continue }
      let origin = Int(part.start.rawValue - range.start.rawValue)
      let offset = region.hostOffset(of: part.start)
      let byteCount = Int(part.byteCount)
      var done = 0
      while done < byteCount {
        let rest = done..<byteCount
        let count = try gettingMemory(for: part) { () throws(LinuxError) in
          try body(region, offset + done, origin + rest.lowerBound..<origin + rest.upperBound)
        }
        sum += count
        done += count
        if count == 0 {
          try wake(region, at: offset + done)
          done += region.backingPageByteCount
        }
      }
    }
    return sum
  }

  /// The page may be there because somebody wrote it to the file, who knows nothing of those who wait.
  private func wake(_ region: MemoryRegion, at offset: Int) throws(GuestMemoryError) {
    try system { () throws(LinuxError) in
      try userfaultfd.wake(region.mapping, at: offset, byteCount: region.backingPageByteCount)
    }
  }
}
