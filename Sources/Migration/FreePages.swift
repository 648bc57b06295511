import GuestRAM

/// Which pages need not be sent, of those that a guest has named as free since its writes are tracked.
///
/// A page may be left out as long as every write to it since tracking began is still to be told, for then whatever the
/// guest puts into it is sent after all. So it does not matter whether a page was named before it was written, after
/// that or meanwhile, nor whether the guest uses it again without a word. A write that was told already, as when the
/// guest was watched for a forecast, would be lost: such pages are sent, free or not. No hint ever makes a write forgotten.
struct FreePages {
  private let written: [GuestRange]

  /// - Parameter written: the writes that have been told already; rising and not overlapping.
  init(written: [GuestRange]) {
    self.written = written
  }

  /// The pages that may be left out: rising and not overlapping.
  /// - Parameter hints: pages of guest memory that were named as free, in any order; what is not whole pages is not used.
  func usable(_ hints: [GuestRange]) -> [GuestRange] {
    let pages = hints.filter {
      $0.end != nil && $0.byteCount > 0 && ($0.start.rawValue | $0.byteCount) % GuestPage.byteCount == 0
    }
    return pages.isEmpty ? [] : pages.union([]).subtracting(written)
  }
}
