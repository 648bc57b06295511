/// How large the balloon is meant to be, so that the guest has the memory the operator wants it to have (5.5.4).
public struct BalloonTarget: Equatable, Sendable {
  /// `num_pages`: the pages that the balloon should hold, 4096 bytes each.
  public let pageCount: UInt32

  public init(pageCount: UInt32) {
    self.pageCount = pageCount
  }

  /// The balloon that leaves a guest `memoryByteCount` bytes.
  ///
  /// - Parameters:
  ///   - memoryByteCount: what the guest is to keep: at least a page, at most all it has, and in whole pages less.
  ///   - guestByteCount: all the memory that the guest was given.
  public init(memoryByteCount: UInt64, of guestByteCount: UInt64) throws(BalloonError) {
    guard memoryByteCount <= guestByteCount else {
      throw .targetAboveMemory(target: memoryByteCount, memory: guestByteCount)
    }
    guard memoryByteCount >= PageRuns.pageByteCount else { throw .targetTooSmall(target: memoryByteCount) }
    let difference = guestByteCount - memoryByteCount
    guard difference % PageRuns.pageByteCount == 0 else {
      throw .notWholePages(target: memoryByteCount, memory: guestByteCount)
    }
    guard let pageCount = UInt32(exactly: difference / PageRuns.pageByteCount) else {
      throw .balloonTooLarge(byteCount: difference)
    }
    self.pageCount = pageCount
  }

  /// What the guest keeps, in bytes; 0 when the balloon would hold more than there is.
  public func memoryByteCount(of guestByteCount: UInt64) -> UInt64 {
    let taken = UInt64(pageCount) * PageRuns.pageByteCount
    return taken < guestByteCount ? guestByteCount - taken : 0
  }
}
