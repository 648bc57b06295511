import Synchronization

/// New blocks, and a larger table when there is no room for their offsets.
extension Qcow2Refcounts {
  /// Makes the block for a cluster that has none.
  ///
  /// - Parameter place: a free cluster, which has a block or is the same; the new block goes there.
  /// - Returns: the first cluster that may be free.
  mutating func addBlock(
    for cluster: UInt64, at place: UInt64, in file: ImageFile, _ tables: borrowing Mutex<Qcow2Tables>
  ) throws(StoreError) -> UInt64 {
    let index = cluster / layout.refcountsPerBlock
    guard index < UInt64(table.count) else {
      return try growTable(at: cluster, in: file, tables)
    }
    let offset = place << layout.clusterBits
    var block = [UInt8](repeating: 0, count: layout.clusterByteCount)
    if place == cluster {
      block.setRefcount(1, at: Int(place % layout.refcountsPerBlock), order: layout.refcountOrder)
    } else {
      try use(place..<place + 1, in: file)
    }
    try tables.withLock { (tables) throws(StoreError) in try tables.claim(place..<place + 1) }
    try file.extend(toByteCount: offset + UInt64(layout.clusterByteCount))
    try file.write(block, at: offset)
    // A table must never lead to a block that is not there yet.
    try file.synchronize()
    try file.write([UInt8](bigEndian: CollectionOfOne(offset)), at: tableOffset + index * 8)
    table[Int(index)] = offset
    return place + 1
  }

  /// Writes a larger table, with the blocks that describe the clusters it and they take, where nothing is described
  /// yet; then lets the header lead to it.
  private mutating func growTable(
    at start: UInt64, in file: ImageFile, _ tables: borrowing Mutex<Qcow2Tables>
  ) throws(StoreError) -> UInt64 {
    let first = start / layout.refcountsPerBlock
    let perCluster = UInt64(layout.entriesPerCluster)
    let tableClusters = (max(UInt64(table.count) * 2, first + 2) + perCluster - 1) / perCluster
    guard tableClusters << layout.clusterBits <= Qcow2Header.largestRefcountTableByteCount else { throw .image(.full) }
    var blockCount: UInt64 = 1
    while (start + tableClusters + blockCount - 1) / layout.refcountsPerBlock - first + 1 > blockCount {
      blockCount += 1
    }
    let area = start..<start + tableClusters + blockCount
    try tables.withLock { (tables) throws(StoreError) in try tables.claim(area) }
    var newTable = table + [UInt64](repeating: 0, count: Int(tableClusters * perCluster) - table.count)
    for block in 0..<blockCount {
      newTable[Int(first + block)] = (start + tableClusters + block) << layout.clusterBits
    }
    try write(newTable, blockCount, area, in: file)
    return area.upperBound
  }

  private mutating func write(
    _ newTable: [UInt64], _ blockCount: UInt64, _ area: Range<UInt64>, in file: ImageFile
  ) throws(StoreError) {
    let bits = layout.clusterBits
    let perBlock = layout.refcountsPerBlock
    var blocks = [UInt8](repeating: 0, count: Int(blockCount) * layout.clusterByteCount)
    let described = area.lowerBound / perBlock * perBlock
    for cluster in area { blocks.setRefcount(1, at: Int(cluster - described), order: layout.refcountOrder) }
    try file.extend(toByteCount: area.upperBound << bits)
    try file.write([UInt8](bigEndian: newTable) + blocks, at: area.lowerBound << bits)
    try file.synchronize()
    let tableClusters = UInt64(newTable.count / layout.entriesPerCluster)
    var fields = [UInt8](repeating: 0, count: 12)
    fields.setBigEndian(area.lowerBound << bits, at: 0)
    fields.setBigEndian(UInt32(tableClusters), at: 8)
    try file.write(fields, at: Qcow2Header.Place.refcountTable)
    abandoned.append(layout.clusters(tableOffset, UInt64(table.count) * 8))
    table = newTable
    tableOffset = area.lowerBound << bits
  }
}
