public import LinuxIO

/// Memory whose pages follow while it is in use already.
extension MemoryRegion {
  /// Where the region stands in this process, as whoever provides its pages learns of those that are missed.
  public var hostAddress: UInt64 {
    unsafe UInt64(UInt(bitPattern: mapping.base + mappingOffset))
  }

  /// Leaves pages that are missing to whoever reads the descriptor: whoever touches one waits for it.
  ///
  /// `EINVAL` is thrown for a region that does not consist of whole pages.
  public func awaitPages(from userfaultfd: borrowing Userfaultfd) throws(LinuxError) {
    try userfaultfd.register(mapping, at: mappingOffset, byteCount: Int(range.byteCount))
  }
}
