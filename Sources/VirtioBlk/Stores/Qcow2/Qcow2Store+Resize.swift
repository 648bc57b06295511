import Synchronization

extension Qcow2Store {
  /// Makes the disk larger; making it smaller is refused, and so is any change while there are internal snapshots.
  public func resize(toByteCount byteCount: UInt64) throws(StoreError) {
    try checkWritable()
    guard byteCount % 512 == 0, byteCount <= Qcow2Header.largestL1ByteCount / 8 * layout.l2ReachByteCount else {
      throw .illegalSize(byteCount)
    }
    let old = self.byteCount
    guard byteCount >= old else { throw .fixedSize }
    guard byteCount > old else { return }
    try change { (changes) throws(StoreError) in
      guard changes.header.snapshotCount == 0 else { throw .image(.snapshots) }
      try growL1(toByteCount: byteCount, &changes)
    }
    try hideWhatIsBeyond(old, upTo: byteCount)
    try change { (changes) throws(StoreError) in
      var field = [UInt8](repeating: 0, count: 8)
      field.setBigEndian(byteCount, at: 0)
      try file.synchronize()
      try file.write(field, at: Qcow2Header.Place.size)
      changes.header.byteCount = byteCount
    }
    size.store(byteCount, ordering: .releasing)
  }

  /// What is beyond the disk's old end, in its last cluster and in a longer backing file, was never to be seen.
  private func hideWhatIsBeyond(_ old: UInt64, upTo new: UInt64) throws(StoreError) {
    let end = min(new, max(layout.roundedUp(old), backing?.byteCount ?? 0))
    if old < end { try writeZeroes(old..<end, mayUnmap: true) }
  }

  private func growL1(toByteCount byteCount: UInt64, _ changes: inout Qcow2Changes) throws(StoreError) {
    let needed = Int((byteCount + layout.l2ReachByteCount - 1) / layout.l2ReachByteCount)
    let (l1, oldOffset) = tables.withLock { ($0.l1, $0.l1Offset) }
    guard needed > l1.count else { return }
    let clusterCount = layout.clusters(0, UInt64(needed) * 8).count
    let (clusters, _) = try reserve(atLeast: clusterCount, most: clusterCount, &changes)
    let offset = clusters.lowerBound << layout.clusterBits
    let grown = l1 + [UInt64](repeating: 0, count: needed - l1.count)
    var bytes = [UInt8](bigEndian: grown)
    bytes += [UInt8](repeating: 0, count: clusterCount * layout.clusterByteCount - bytes.count)
    try file.write(bytes, at: offset)
    try file.synchronize()
    var fields = [UInt8](repeating: 0, count: 12)
    fields.setBigEndian(UInt32(needed), at: 0)
    fields.setBigEndian(offset, at: 4)
    try file.write(fields, at: Qcow2Header.Place.l1)
    changes.header.l1EntryCount = UInt32(needed)
    changes.header.l1Offset = offset
    let old = layout.clusters(oldOffset, UInt64(l1.count) * 8)
    let mark = try tables.withLock { (tables) throws(StoreError) in
      tables.unclaim(old)
      try tables.claim(clusters)
      tables.l1 = grown
      tables.l1Offset = offset
      return tables.mark()
    }
    if !old.isEmpty { retire([old], mark, &changes) }
  }
}
