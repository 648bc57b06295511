import LinuxIO
import Synchronization

/// A region whose writes are tracked, and the pages of it that were changed where the page map does not say so.
final class TrackedRegion: Sendable {
  static let pageByteCount = 4096
  /// The pages that are protected at a time while others wait for the marks.
  private static let mostPagesInRun = 4096

  let region: MemoryRegion
  /// The region's backing pages, in bytes of its mapping.
  let bytes: Range<Int>
  /// Whether the kernel tells of its writes.
  let isRegistered = Atomic(false)
  private let marks: Mutex<PageMarks>
  /// The stretches of which the file has had no page so far, one bit each.
  let empty: Mutex<PageMarks>

  init(_ region: MemoryRegion) throws(GuestMemoryError) {
    let start = region.mappingOffset
    guard region.range.start.rawValue % 4096 == 0, start % 4096 == 0, region.range.byteCount % 4096 == 0 else {
      throw .unaligned(region.range.start, multipleOf: 4096)
    }
    self.region = region
    bytes = region.backingPages(of: start..<start + Int(region.range.byteCount))
    marks = Mutex(PageMarks(pageCount: bytes.count / Self.pageByteCount))
    empty = Mutex(PageMarks(pageCount: (bytes.count + Self.stretchByteCount - 1) / Self.stretchByteCount))
  }

  /// Notes the backing pages of some bytes of the mapping as changed, and does something before anybody can take that
  /// note.
  func mark<E: Error>(_ changed: Range<Int>, with body: () throws(E) -> Void) throws(E) {
    let pages = pages(of: region.backingPages(of: changed.clamped(to: bytes)))
    try marks.withLock { (marks) throws(E) in
      marks.insert(pages)
      try body()
    }
  }

  /// The next bytes that are marked, nil when there are none from `start` on.
  func nextMarked(from start: Int) -> Range<Int>? {
    let first = (start - bytes.lowerBound) / Self.pageByteCount
    let most = max(Self.mostPagesInRun, region.backingPageByteCount / Self.pageByteCount)
    guard let run = marks.withLock({ $0.run(from: first, upTo: most) }) else { return nil }
    return bytes.lowerBound + run.lowerBound * Self.pageByteCount..<bytes.lowerBound + run.upperBound
      * Self.pageByteCount
  }

  /// Takes marks away once `body` is done, so that none is lost when it fails. Nobody else marks anything in between.
  func unmark(_ taken: Range<Int>, after body: () throws(LinuxError) -> Void) throws(LinuxError) {
    try marks.withLock { (marks) throws(LinuxError) in
      try body()
      marks.remove(pages(of: taken))
    }
  }

  private func pages(of bytes: Range<Int>) -> Range<Int> {
    let origin = self.bytes.lowerBound
    return (bytes.lowerBound - origin) / Self.pageByteCount..<(bytes.upperBound - origin) / Self.pageByteCount
  }
}

extension MemoryRegion {
  /// The backing page that somebody waits for; nil when it is not of this region.
  func page(of fault: Userfaultfd.Fault) -> GuestRange? {
    guard let offset = fault.offset(in: mapping) else { return nil }
    let page = backingPages(of: offset..<offset + 1)
    let region = mappingOffset..<mappingOffset + Int(range.byteCount)
    return region.contains(offset) ? guestRange(of: page) : nil
  }

  /// Bytes of the mapping as the guest has them: what of them lies in the region.
  func guestRange(of bytes: Range<Int>) -> GuestRange {
    let inside = bytes.clamped(to: mappingOffset..<mappingOffset + Int(range.byteCount))
    return GuestRange(
      start: GuestAddress(range.start.rawValue + UInt64(inside.lowerBound - mappingOffset)),
      byteCount: UInt64(inside.count))
  }

  /// The backing pages that some bytes of the mapping touch, in bytes of the mapping.
  func backingPages(of bytes: Range<Int>) -> Range<Int> {
    let size = backingPageByteCount
    return bytes.lowerBound / size * size..<(bytes.upperBound + size - 1) / size * size
  }
}
