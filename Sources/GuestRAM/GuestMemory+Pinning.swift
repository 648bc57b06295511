import LinuxIO

/// Memory that stays in memory: the host never has to read a page from swap before the guest or a move can use it.
extension GuestMemory {
  /// Pins what the guest has touched and what it will touch. What it never touches costs nothing, and what it gives back
  /// goes back to the host.
  ///
  /// - Returns: the regions that were not pinned before, for `unpin`.
  /// - Throws: `cannotPin`, with nothing more pinned than before, where the process may not pin as much as all of memory.
  @discardableResult
  public func pin() throws(GuestMemoryError) -> [GuestRange] {
    let fresh = regions.filter { !$0.mapping.isPinned }
    for (index, region) in fresh.enumerated() {
      do throws(LinuxError) {
        try region.pin()
      } catch {
        for earlier in fresh[..<index] { try system { () throws(LinuxError) in try earlier.mapping.unpin() } }
        throw try cannotPin(error)
      }
    }
    return fresh.map(\.range)
  }

  /// Lets the host put pages into swap again.
  public func unpin() throws(GuestMemoryError) {
    try unpin(regions.map(\.range))
  }

  /// The same for some regions, as `pin` has returned them; what else is pinned stays so.
  public func unpin(_ pinned: [GuestRange]) throws(GuestMemoryError) {
    for region in regions where pinned.contains(region.range) {
      try system { () throws(LinuxError) in try region.mapping.unpin() }
    }
  }

  /// Whether all of it is pinned.
  public var isPinned: Bool { regions.allSatisfy(\.mapping.isPinned) }

  private func cannotPin(_ error: LinuxError) throws(GuestMemoryError) -> GuestMemoryError {
    guard error.isBeyondPinLimit else { return .system(error) }
    let limit = try system { () throws(LinuxError) in try PinLimit.byteCount }
    return .cannotPin(byteCount: byteCount, limit: limit)
  }
}

extension MemoryRegion {
  fileprivate func pin() throws(LinuxError) {
    // A file is mapped from its start, and what lies before the region may be another's.
    let pages = backingPages(of: mappingOffset..<mappingOffset + Int(range.byteCount))
    let bytes = pages.clamped(to: 0..<mapping.byteCount)
    if let file { try mapping.pin(bytes, of: file.descriptor) } else { try mapping.pin(bytes) }
  }
}
