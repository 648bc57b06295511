/// Brings refcounts up to date from the tables, for an image whose last user put that off and did not come to it.
struct Qcow2Repair {
  /// The most clusters of a file that are counted; two bytes of memory each.
  static let largestClusterCount: UInt64 = 1 << 26

  let layout: Qcow2Layout
  private var counts: [UInt16]

  /// Counts what the image refers to. Snapshots and bitmaps are not looked into, so it must have none.
  init(_ header: Qcow2Header, of file: ImageFile) throws(StoreError) {
    layout = header.layout
    let clusterCount = layout.clusters(0, file.byteCount).upperBound
    guard header.snapshotCount == 0, !header.hasBitmaps, clusterCount <= Self.largestClusterCount else {
      throw .image(.needsRepair)
    }
    counts = [UInt16](repeating: 0, count: Int(clusterCount))
  }

  /// Counts all that is referred to and sets the counts in the file.
  mutating func run(
    _ tables: inout Qcow2Tables, _ refcounts: inout Qcow2Refcounts, in file: ImageFile
  ) throws(StoreError) {
    for cluster in tables.metadata { try count(cluster..<cluster + 1, once: true) }
    for index in tables.l1.indices {
      for entry in try tables.wholeTable(index, from: file).entries ?? [] where entry != 0 {
        guard let mapping = layout.meaning(of: entry) else { throw .corrupt(.entry(.l2, entry)) }
        try count(mapping)
      }
    }
    try refcounts.set(counts, in: file)
    try file.synchronize()
  }

  private mutating func count(_ mapping: Qcow2Mapping) throws(StoreError) {
    switch mapping {
    case .unallocated, .zeros(0): break
    case .zeros(let host): try count(layout.clusters(host, 1), once: true)
    case .data(let host, _): try count(layout.clusters(host, 1), once: true)
    case .compressed(let offset, let byteCount): try count(layout.clusters(offset, UInt64(byteCount)), once: false)
    }
  }

  /// - Parameter once: whether nothing else may refer to the clusters.
  private mutating func count(_ clusters: Range<UInt64>, once: Bool) throws(StoreError) {
    for cluster in clusters {
      // Compressed data may be told to reach further than the file does.
      guard cluster < UInt64(counts.count) else {
        if once { throw .corrupt(.overlap(cluster << layout.clusterBits)) }
        return
      }
      guard counts[Int(cluster)] == 0 || !once, counts[Int(cluster)] < .max else {
        throw .corrupt(.overlap(cluster << layout.clusterBits))
      }
      counts[Int(cluster)] += 1
    }
  }
}
