import GuestRAM
import Virtqueue

extension PageRuns {
  /// Reads page frames until the chain ends or there is no more room; bytes that make up no whole frame are left.
  ///
  /// - Parameter left: how many frames the chain may still have. It counts down, so that a chain whose descriptors name
  ///   one buffer over and over is an error and not an hour's work.
  /// - Returns: whether the chain may have more.
  mutating func read(_ chain: inout DescriptorChain, left: inout UInt64) throws(VirtqueueError) -> Bool {
    while !isFull {
      guard let frame = try chain.read(UInt32.self) else { return false }
      guard left > 0 else { throw .malformedRequest("chain \(chain.head) names more pages than the guest has") }
      left -= 1
      insert(frame: frame)
    }
    return true
  }
}

extension GuestMemory {
  /// Appends the whole 4 KiB pages of a range that are guest memory, in rising order and split where regions meet.
  ///
  /// - Returns: how many bytes of the range are left out.
  func appendPages(of range: GuestRange, to parts: inout [GuestRange]) -> UInt64 {
    guard range.byteCount > 0, range.end != nil else { return range.byteCount }
    let page = PageRuns.pageByteCount
    var missing = range.byteCount
    for region in regions {
      guard let part = region.range.overlap(range) else { continue }
      let start = part.start.rawValue
      let first = start / page + (start % page == 0 ? 0 : 1)
      let end = (start + part.byteCount) / page
      guard first < end else { continue }
      parts.append(GuestRange(start: GuestAddress(first * page), byteCount: (end - first) * page))
      missing -= (end - first) * page
    }
    return missing
  }
}
