import Synchronization

/// How often each cluster of the file is referred to: the table whole, blocks as far as they are kept.
struct Qcow2Refcounts: Sendable {
  /// The most bytes of blocks that are kept in memory; one block is kept in any case.
  static let cacheByteCount = 4 << 20

  let layout: Qcow2Layout
  var table: [UInt64]
  var tableOffset: UInt64
  /// Clusters that a table has moved away from. Whoever asks for clusters takes these to be given back.
  var abandoned: [Range<UInt64>] = []
  private var blocks: TableCache<UInt8>
  /// No cluster before is free.
  private var firstFree: UInt64 = 0

  init(_ header: Qcow2Header, of file: ImageFile) throws(StoreError) {
    layout = header.layout
    tableOffset = header.refcountTableOffset
    let byteCount = Int(header.refcountTableClusterCount) * layout.clusterByteCount
    table = try file.bytes(at: tableOffset, count: byteCount).bigEndianEntries
    blocks = TableCache(capacity: Self.cacheByteCount / layout.clusterByteCount)
    for entry in table where entry != 0 {
      guard entry & (layout.clusterMask | ~Qcow2Layout.offsetMask) == 0, try file.contains(entry) else {
        throw .corrupt(.entry(.refcounts, entry))
      }
    }
  }

  // MARK: - Looking up

  /// The place of a cluster's block among those kept, nil when there is no block, so that the cluster is free.
  private mutating func block(of cluster: UInt64, in file: ImageFile) throws(StoreError) -> Int? {
    let index = cluster / layout.refcountsPerBlock
    guard index < UInt64(table.count), table[Int(index)] != 0 else { return nil }
    let offset = table[Int(index)]
    if let slot = blocks.find(offset) { return slot }
    return blocks.add(offset, try file.bytes(at: offset, count: layout.clusterByteCount))
  }

  private func entry(_ cluster: UInt64) -> Int { Int(cluster % layout.refcountsPerBlock) }

  mutating func count(of cluster: UInt64, in file: ImageFile) throws(StoreError) -> UInt64 {
    guard let slot = try block(of: cluster, in: file) else { return 0 }
    return blocks[slot].refcount(at: entry(cluster), order: layout.refcountOrder)
  }

  /// The first cluster from `cluster` on that is free; it may have no block.
  private mutating func nextFree(from cluster: UInt64, in file: ImageFile) throws(StoreError) -> UInt64 {
    var cluster = cluster
    while let slot = try block(of: cluster, in: file) {
      repeat {
        if blocks[slot].refcount(at: entry(cluster), order: layout.refcountOrder) == 0 { return cluster }
        cluster += 1
      } while entry(cluster) != 0
    }
    return cluster
  }

  // MARK: - Counting

  /// Counts clusters as used that were free.
  mutating func use(_ clusters: Range<UInt64>, in file: ImageFile) throws(StoreError) {
    _ = try change(clusters, in: file) { _ in 1 }
  }

  /// Counts clusters as referred to once less.
  /// - Returns: those that are free now.
  mutating func release(_ clusters: Range<UInt64>, in file: ImageFile) throws(StoreError) -> [Range<UInt64>] {
    let free = try change(clusters, in: file) { (count) in count == 0 ? nil : count - 1 }
    if let first = free.first { firstFree = min(firstFree, first.lowerBound) }
    return free
  }

  /// Sets the count of every cluster from the first on. An image with one in use that no block describes is not
  /// repaired.
  mutating func set(_ counts: [UInt16], in file: ImageFile) throws(StoreError) {
    let largest = layout.refcountOrder >= 4 ? UInt64(UInt16.max) : 1 << (1 << layout.refcountOrder) - 1
    var start = 0
    while start < counts.count {
      let blockEnd = (start / Int(layout.refcountsPerBlock) + 1) * Int(layout.refcountsPerBlock)
      let count = counts[start]
      let end = counts[start..<min(counts.count, blockEnd)].firstIndex { $0 != count } ?? min(counts.count, blockEnd)
      let isDescribed = try block(of: UInt64(start), in: file) != nil
      guard isDescribed || count == 0, UInt64(count) <= largest else { throw .image(.needsRepair) }
      if isDescribed { _ = try change(UInt64(start)..<UInt64(end), in: file) { _ in UInt64(count) } }
      start = end
    }
  }

  /// - Parameter update: what a count becomes, or nil when it cannot be.
  /// - Returns: the clusters whose count is 0 then.
  private mutating func change(
    _ clusters: Range<UInt64>, in file: ImageFile, _ update: (UInt64) -> UInt64?
  ) throws(StoreError) -> [Range<UInt64>] {
    var free: [Range<UInt64>] = []
    var rest = clusters
    while !rest.isEmpty {
      let piece = rest.clamped(to: 0..<(rest.lowerBound / layout.refcountsPerBlock + 1) * layout.refcountsPerBlock)
      rest = piece.upperBound..<rest.upperBound
      try changeInBlock(piece, in: file, update, &free)
    }
    return free
  }

  private mutating func changeInBlock(
    _ clusters: Range<UInt64>, in file: ImageFile, _ update: (UInt64) -> UInt64?, _ free: inout [Range<UInt64>]
  ) throws(StoreError) {
    guard let slot = try block(of: clusters.lowerBound, in: file) else {
      throw .corrupt(.refcount(clusters.lowerBound << layout.clusterBits))
    }
    let order = layout.refcountOrder
    let first = entry(clusters.lowerBound) << Int(order) / 8
    let last = (entry(clusters.upperBound - 1) + 1) << Int(order)
    let bytes = first..<(last + 7) / 8
    let skipped = (first * 8) >> Int(order)
    var changed = Array(blocks[slot][bytes])
    for cluster in clusters {
      let index = entry(cluster) - skipped
      guard let count = update(changed.refcount(at: index, order: order)) else {
        throw .corrupt(.refcount(cluster << layout.clusterBits))
      }
      changed.setRefcount(count, at: index, order: order)
      if count == 0 { free.append(cluster) }
    }
    let offset = table[Int(clusters.lowerBound / layout.refcountsPerBlock)]
    try file.write(changed, at: offset + UInt64(first))
    blocks[slot].replaceSubrange(bytes, with: changed)
  }

  // MARK: - Finding room

  /// Counts free clusters that lie side by side as used, which survives a loss of power once this returns: whatever
  /// refers to them may be written from then on.
  ///
  /// - Parameter least: how many are of use; at most `most` are taken.
  /// - Returns: the clusters, and whether nothing was ever written to them.
  mutating func reserve(
    atLeast least: Int = 1, most: Int, in file: ImageFile, _ tables: borrowing Mutex<Qcow2Tables>
  ) throws(StoreError) -> (clusters: Range<UInt64>, isFresh: Bool) {
    var start = try nextFree(from: firstFree, in: file)
    firstFree = start
    var end = start
    while end - start < UInt64(most) {
      guard end < layout.clusterLimit else { throw .image(.full) }
      if try block(of: end, in: file) == nil {
        if end - start >= UInt64(least), end > start { break }
        start = try nextFree(from: addBlock(for: end, at: start, in: file, tables), in: file)
        end = max(start, end)
      } else if try count(of: end, in: file) != 0 {
        if end - start >= UInt64(least) { break }
        start = try nextFree(from: end, in: file)
        end = start
      } else {
        end += 1
      }
    }
    return (start..<end, try claim(start..<end, in: file, tables))
  }

  private mutating func claim(
    _ clusters: Range<UInt64>, in file: ImageFile, _ tables: borrowing Mutex<Qcow2Tables>
  ) throws(StoreError) -> Bool {
    let shared = tables.withLock { (tables) in clusters.first { tables.metadata.contains($0) } }
    if let shared { throw .corrupt(.refcount(shared << layout.clusterBits)) }
    let isFresh = clusters.lowerBound << layout.clusterBits >= file.byteCount
    // With its clusters inside the file, nothing that refers to them leads beyond its end.
    try file.extend(toByteCount: clusters.upperBound << layout.clusterBits)
    try use(clusters, in: file)
    try file.synchronize()
    if firstFree == clusters.lowerBound { firstFree = clusters.upperBound }
    return isFresh
  }
}

extension [Range<UInt64>] {
  /// Adds a number that is often the one after the last.
  mutating func append(_ value: UInt64) {
    if let last, last.upperBound == value {
      self[count - 1] = last.lowerBound..<value + 1
    } else {
      append(value..<value + 1)
    }
  }
}

/// A block of counts, each `1 << order` bits wide; narrow ones begin at the least significant bit of a byte.
extension [UInt8] {
  func refcount(at index: Int, order: UInt64) -> UInt64 {
    switch order {
    case 0...2:
      let bit = index << Int(order)
      return UInt64(self[bit / 8] >> UInt8(bit % 8)) & (1 << (1 << order) - 1)
    case 3: return UInt64(self[index])
    case 4: return UInt64(bigEndian(at: index * 2, as: UInt16.self))
    case 5: return UInt64(bigEndian(at: index * 4, as: UInt32.self))
    default: return bigEndian(at: index * 8)
    }
  }

  mutating func setRefcount(_ count: UInt64, at index: Int, order: UInt64) {
    switch order {
    case 0...2:
      let bit = index << Int(order)
      let mask = UInt8(1 << (1 << order) - 1) << UInt8(bit % 8)
      self[bit / 8] = self[bit / 8] & ~mask | UInt8(truncatingIfNeeded: count) << UInt8(bit % 8) & mask
    case 3: self[index] = UInt8(truncatingIfNeeded: count)
    case 4: setBigEndian(UInt16(truncatingIfNeeded: count), at: index * 2)
    case 5: setBigEndian(UInt32(truncatingIfNeeded: count), at: index * 4)
    default: setBigEndian(count, at: index * 8)
    }
  }
}
