/// What the guest says of its memory, in bytes.
public struct GuestFigures: Equatable, Sendable {
  /// All memory of the guest but, without DEFLATE_ON_OOM, the balloon: like Linux's MemTotal.
  public var totalByteCount: UInt64
  /// Free, whether or not there is host memory behind it.
  public var freeByteCount: UInt64
  /// Free, or free as soon as it is wanted: cache and pages lent as hints.
  public var availableByteCount: UInt64
  public var cacheByteCount: UInt64
  public var balloonByteCount: UInt64
  public var diskByteCount: UInt64
  /// The memory of the workloads that is not cache.
  public var workloadByteCount: UInt64
  /// Boot block, tables, rings.
  public var kernelByteCount: UInt64

  /// - Parameter totalShrinks: whether pages in the balloon are none of the guest's.
  init(_ allocator: GuestAllocator, totalShrinks: Bool) throws(GuestError) {
    func bytes(_ kinds: PageKind...) throws(GuestError) -> UInt64 {
      var count: UInt64 = 0
      for kind in kinds { count = count &+ (try allocator.count(of: kind)) }
      return count &<< GuestPage.shift
    }
    balloonByteCount = try bytes(.balloon, .deflating)
    totalByteCount = UInt64(allocator.pageCount) << GuestPage.shift &- (totalShrinks ? balloonByteCount : 0)
    freeByteCount = try bytes(.free, .reported, .untouched, .reporting)
    cacheByteCount = try bytes(.cache)
    availableByteCount = freeByteCount &+ cacheByteCount &+ (try bytes(.hinted))
    diskByteCount = try bytes(.disk)
    workloadByteCount = try bytes(.workingSet, .anonymous)
    kernelByteCount = try bytes(.kernel)
  }
}
