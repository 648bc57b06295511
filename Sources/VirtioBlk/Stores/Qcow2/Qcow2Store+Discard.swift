import Synchronization

extension Qcow2Store {
  /// Gives whole clusters back; their parts at either end stay as they are. With a backing file and no way to hide it,
  /// which version 2 lacks, nothing is given back.
  func discard(_ range: Range<UInt64>) throws(StoreError) {
    guard let blank else { return }
    try replaceWhole(wholeClusters(range)) { (entry) in
      switch layout.meaning(of: entry) {
      case .unallocated, .zeros(0): entry
      default: blank
      }
    }
  }

  func writeZeroes(_ range: Range<UInt64>, mayUnmap: Bool) throws(StoreError) {
    let whole = wholeClusters(range)
    let keepsSpace = !mayUnmap && layout.version < 3
    guard let blank, !whole.isEmpty, !keepsSpace else { return try zero(range) }
    try zero(range.lowerBound..<whole.lowerBound)
    try replaceWhole(whole) { (entry) in
      switch layout.meaning(of: entry) {
      case .unallocated: blank
      case .zeros where !mayUnmap, .zeros(0): entry
      case .data where !mayUnmap: entry | Qcow2Layout.readsAsZeros
      default: blank
      }
    }
    if whole.upperBound < range.upperBound { try zero(whole.upperBound..<range.upperBound) }
  }

  /// The L2 entry of a cluster that has no space and reads as zeros, if there is one.
  private var blank: UInt64? {
    guard backing != nil else { return 0 }
    return layout.version >= 3 ? Qcow2Layout.readsAsZeros : nil
  }

  /// The part of a range of the disk that has whole clusters. Its last one is whole if the disk ends in it.
  private func wholeClusters(_ range: Range<UInt64>) -> Range<UInt64> {
    let start = layout.roundedUp(range.lowerBound)
    let end =
      range.upperBound == byteCount ? layout.roundedUp(range.upperBound) : range.upperBound & ~layout.clusterMask
    return start..<max(start, end)
  }

  /// Writes zeros where there are none yet.
  func zero(_ range: Range<UInt64>) throws(StoreError) {
    var place = range.lowerBound
    var zeros = ZeroSource()
    while place < range.upperBound {
      let rest = Int(clamping: range.upperBound - place)
      let extent = try tables.withLock { (tables) throws(StoreError) in
        try tables.extent(at: place, most: rest, isWrite: false, from: file, mayWait: true)
      }
      guard let extent else { return }
      if !readsAsZeros(extent.source, place..<place + UInt64(extent.byteCount)) {
        _ = try write(extent.byteCount, of: &zeros, at: place, mayWait: true)
      }
      place += UInt64(extent.byteCount)
    }
  }

  /// Changes the entries of whole clusters, and gives back what they refer to no more.
  private func replaceWhole(_ range: Range<UInt64>, _ update: (UInt64) -> UInt64) throws(StoreError) {
    let reach = layout.l2ReachByteCount
    var place = range.lowerBound
    while place < range.upperBound {
      let end = min(range.upperBound, (place / reach + 1) * reach)
      try change { (changes) throws(StoreError) in
        try replace(place..<end, update, &changes)
        try reclaimSome(&changes)
      }
      place = end
    }
  }

  private func replace(
    _ range: Range<UInt64>, _ update: (UInt64) -> UInt64, _ changes: inout Qcow2Changes
  ) throws(StoreError) {
    let count = layout.clusters(range.lowerBound, UInt64(range.count)).count
    let found = try tables.withLock { (tables) throws(StoreError) in
      try tables.entries(at: range.lowerBound, count: count, from: file)
    }
    let old = found.map(Array.init) ?? [UInt64](repeating: 0, count: count)
    for entry in old {
      guard layout.meaning(of: entry) != nil else { throw .corrupt(.entry(.l2, entry)) }
    }
    guard old.contains(where: { update($0) != $0 }) else { return }
    try ownTable(for: range.lowerBound, &changes)
    let own = try tables.withLock { (tables) throws(StoreError) in
      try tables.entries(at: range.lowerBound, count: count, from: file)
    }
    try link(own.map { $0.map(update) } ?? [], at: range.lowerBound, &changes)
  }
}
