import LinuxIO
import Synchronization

/// A region of frozen memory.
final class FrozenRegion: Sendable {
  let region: MemoryRegion
  /// The region's backing pages, in bytes of its mapping.
  let bytes: Range<Int>
  let isRegistered = Atomic(false)

  init(_ region: MemoryRegion) throws(GuestMemoryError) {
    let start = region.mappingOffset
    guard region.range.start.rawValue % 4096 == 0, start % 4096 == 0, region.range.byteCount % 4096 == 0 else {
      throw .unaligned(region.range.start, multipleOf: 4096)
    }
    self.region = region
    bytes = region.backingPages(of: start..<start + Int(region.range.byteCount))
  }

  func pages(of bytes: Range<Int>) -> Range<Int> {
    (bytes.lowerBound - self.bytes.lowerBound) / 4096..<(bytes.upperBound - self.bytes.lowerBound) / 4096
  }

  func bytes(ofPages pages: Range<Int>) -> Range<Int> {
    bytes.lowerBound + pages.lowerBound * 4096..<bytes.lowerBound + pages.upperBound * 4096
  }

  /// The stretches with memory behind them, in bytes of the mapping.
  func backedBytes() throws(LinuxError) -> [Range<Int>] {
    var ranges: [Range<Int>] = []
    try region.forEachResidentPart { (part) in
      let start = region.hostOffset(of: part.start)
      ranges.append(start..<start + Int(part.byteCount))
    }
    return ranges
  }
}
