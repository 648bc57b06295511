/// Changes that the file has already.
extension Qcow2Tables {
  /// Takes what the file holds now for what it held before. Operations under way remain counted.
  mutating func reload(_ header: Qcow2Header, of file: ImageFile) throws(StoreError) {
    let operations = operations
    self = try Qcow2Tables(header, of: file)
    self.operations = operations
  }

  /// Counts all tables of an image as in use, so that none of them is taken for data.
  mutating func claimAll(_ refcounts: Qcow2Refcounts, of file: ImageFile) throws(StoreError) {
    metadata = [0]
    try claim(layout.clusters(l1Offset, UInt64(l1.count) * 8))
    try claim(layout.clusters(refcounts.tableOffset, UInt64(refcounts.table.count) * 8))
    for entry in refcounts.table where entry != 0 {
      try claim(layout.clusters(entry, 1))
    }
    for index in l1.indices {
      if let offset = try l2Offset(index, in: file) { try claim(layout.clusters(offset, 1)) }
    }
  }

  /// The entries of an L2 table, nil when there is none, and whether it may be changed where it is.
  mutating func wholeTable(
    _ index: Int, from file: ImageFile
  ) throws(StoreError) -> (entries: [UInt64]?, isOwn: Bool) {
    guard let table = try table(index, from: file, mayWait: true), let table else { return (nil, false) }
    return (l2[table], l1[index] & Qcow2Layout.isOwn != 0)
  }

  /// Entries from a place of the disk on, as far as their table has them; nil when there is no table.
  mutating func entries(at place: UInt64, count: Int, from file: ImageFile) throws(StoreError) -> ArraySlice<UInt64>? {
    let table = try wholeTable(layout.l1Index(place), from: file)
    return table.entries?[layout.l2Index(place)...].prefix(count)
  }

  /// Where in the file the L2 entry of a place is.
  func entryOffset(of place: UInt64, in file: ImageFile) throws(StoreError) -> UInt64? {
    guard let table = try l2Offset(layout.l1Index(place), in: file) else { return nil }
    return table + UInt64(layout.l2Index(place)) * 8
  }

  /// - Returns: the clusters that are not referred to any more.
  mutating func setTable(
    _ entry: UInt64, _ entries: [UInt64], at index: Int
  ) throws(StoreError) -> [Range<UInt64>] {
    let old = l1[index] & Qcow2Layout.offsetMask
    let retired = old == 0 ? [] : [layout.clusters(old, 1)]
    for clusters in retired { unclaim(clusters) }
    let offset = entry & Qcow2Layout.offsetMask
    try claim(layout.clusters(offset, 1))
    l1[index] = entry
    _ = l2.add(offset, entries)
    return retired
  }

  /// - Parameter old: what the entries were before they were written, which the table that is kept need not show.
  /// - Returns: the clusters that are not referred to any more.
  mutating func replace(
    _ old: ArraySlice<UInt64>, with entries: [UInt64], at place: UInt64, from file: ImageFile
  ) throws(StoreError) -> [Range<UInt64>] {
    guard let table = try table(layout.l1Index(place), from: file, mayWait: true), let table else { return [] }
    let first = layout.l2Index(place)
    l2[table].replaceSubrange(first..<first + entries.count, with: entries)
    var retired: [Range<UInt64>] = []
    for (old, new) in zip(old, entries) where clusters(of: old) != clusters(of: new) {
      for cluster in clusters(of: old) { retired.append(cluster) }
    }
    return retired
  }

  /// The clusters of the file that an L2 entry refers to.
  private func clusters(of entry: UInt64) -> Range<UInt64> {
    switch layout.meaning(of: entry) {
    case .data(let host, _): layout.clusters(host, 1)
    case .zeros(let host): host == 0 ? 0..<0 : layout.clusters(host, 1)
    case .compressed(let offset, let byteCount): layout.clusters(offset, UInt64(byteCount))
    case .unallocated, nil: 0..<0
    }
  }
}
