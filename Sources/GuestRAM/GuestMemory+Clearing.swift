import LinuxIO

/// Emptying memory, whatever its backing pages are.
extension GuestMemory {
  private static let zeros = [UInt8](repeating: 0, count: 4096)

  /// Has a range read as zeros, and gives the host memory behind it back as far as backing pages lie in it whole.
  ///
  /// A backing page that reaches beyond the range is overwritten in part if there is one, and none is made if there is
  /// not. Of huge pages only those count that this process has touched, so nobody else may fill their file.
  /// - Parameter range: any bytes of guest memory.
  public func clear(_ range: GuestRange) throws(GuestMemoryError) {
    try check(range)
    for region in regions {
      guard let part = region.range.overlap(range) else { continue }
      let offset = region.hostOffset(of: part.start)
      let bytes = offset..<offset + Int(part.byteCount)
      let size = region.backingPageByteCount
      let (first, last) = ((bytes.lowerBound + size - 1) / size * size, bytes.upperBound / size * size)
      guard first < last else {
        try overwrite(bytes, of: region)
        continue
      }
      try overwrite(bytes.lowerBound..<first, of: region)
      try discard(region.guestRange(of: first..<last))
      try overwrite(last..<bytes.upperBound, of: region)
    }
  }

  /// Puts zeros wherever there is memory in some bytes of a region's mapping.
  private func overwrite(_ bytes: Range<Int>, of region: MemoryRegion) throws(GuestMemoryError) {
    var next = bytes.lowerBound
    while next < bytes.upperBound {
      let found = try system { () throws(LinuxError) in
        try region.nextWithMemory(from: next, before: bytes.upperBound)
      }
      guard let part = found?.clamped(to: next..<bytes.upperBound) else { return }
      for start in stride(from: part.lowerBound, to: part.upperBound, by: Self.zeros.count) {
        let piece = region.guestRange(of: start..<min(start + Self.zeros.count, part.upperBound))
        let isShort = piece.byteCount < UInt64(Self.zeros.count)
        try write(bytes: isShort ? Array(Self.zeros.prefix(Int(piece.byteCount))) : Self.zeros, at: piece.start)
      }
      next = part.upperBound
    }
  }
}

extension MemoryRegion {
  /// The first stretch with memory behind it, in bytes of the mapping, of huge pages as far as this process knows them.
  fileprivate func nextWithMemory(from start: Int, before end: Int) throws(LinuxError) -> Range<Int>? {
    // A file of huge pages calls all of itself data.
    if backingPageByteCount > 4096 { return try mapping.nextPresent(from: start, before: end) }
    return try nextResident(from: start, before: end)
  }
}
