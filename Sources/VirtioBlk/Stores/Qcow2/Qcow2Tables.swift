/// Which cluster of the file holds which of the disk: the L1 table whole, L2 tables as far as they are kept.
struct Qcow2Tables: Sendable {
  /// The most bytes of L2 tables that are kept in memory; one table is kept in any case.
  static let cacheByteCount = 16 << 20

  let layout: Qcow2Layout
  var l1: [UInt64]
  var l1Offset: UInt64
  /// The clusters of the file that hold the header and the tables in use, which no data may share.
  var metadata: Set<UInt64> = [0]
  var operations = OperationClock()
  var l2: TableCache<UInt64>

  init(_ header: Qcow2Header, of file: ImageFile) throws(StoreError) {
    layout = header.layout
    l1Offset = header.l1Offset
    l1 = try file.bytes(at: header.l1Offset, count: Int(header.l1EntryCount) * 8).bigEndianEntries
    l2 = TableCache(capacity: Self.cacheByteCount / layout.clusterByteCount)
  }

  /// Counts clusters as holding tables.
  /// - Throws: when one of them does already.
  mutating func claim(_ clusters: Range<UInt64>) throws(StoreError) {
    for cluster in clusters {
      guard metadata.insert(cluster).inserted else { throw .corrupt(.overlap(cluster << layout.clusterBits)) }
    }
  }

  mutating func unclaim(_ clusters: Range<UInt64>) {
    metadata.subtract(clusters)
    for cluster in clusters { l2.remove(cluster << layout.clusterBits) }
  }

  // MARK: - Finding

  /// Where the disk's bytes from `place` on are, as far as they are in one piece.
  ///
  /// - Parameters:
  ///   - most: how many bytes are asked for; at least 1.
  ///   - isWrite: whether they are going to be written where they are.
  /// - Returns: nil when that would have to be waited for and may not.
  mutating func extent(
    at place: UInt64, most: Int, isWrite: Bool, from file: ImageFile, mayWait: Bool
  ) throws(StoreError) -> Qcow2Extent? {
    let index = layout.l1Index(place)
    let reach = layout.l2ReachByteCount
    let limit = min(most, Int(clamping: reach - place % reach))
    guard let table = try table(index, from: file, mayWait: mayWait) else { return nil }
    guard let table else { return Qcow2Extent(source: .nothing, byteCount: limit) }
    let isShared = l1[index] & Qcow2Layout.isOwn == 0
    var extent = try single(l2[table][layout.l2Index(place)], place, isShared: isShared, isWrite: isWrite, file)
    while extent.byteCount < limit, extent.canGrow {
      let next = place + UInt64(extent.byteCount)
      let entry = l2[table][layout.l2Index(next)]
      let more = try single(entry, next, isShared: isShared, isWrite: isWrite, file)
      guard extent.grow(by: more) else { break }
    }
    extent.byteCount = min(extent.byteCount, limit)
    return extent
  }

  /// What there is of one cluster from `place` on.
  private func single(
    _ entry: UInt64, _ place: UInt64, isShared: Bool, isWrite: Bool, _ file: ImageFile
  ) throws(StoreError) -> Qcow2Extent {
    let offset = place & layout.clusterMask
    let byteCount = layout.clusterByteCount - Int(offset)
    switch try mapping(entry, in: file) {
    case .unallocated: return Qcow2Extent(source: .nothing, byteCount: byteCount)
    case .zeros: return Qcow2Extent(source: .zeros, byteCount: byteCount)
    case .data(let host, let isOwn):
      guard !isWrite || !metadata.contains(host >> layout.clusterBits) else { throw .corrupt(.overlap(host)) }
      return Qcow2Extent(source: .host(host + offset), byteCount: byteCount, isOwn: isOwn && !isShared)
    case .compressed(let start, let length):
      return Qcow2Extent(source: .compressed(start, byteCount: length), byteCount: byteCount)
    }
  }

  /// What an entry says, when it can be true of this file.
  func mapping(_ entry: UInt64, in file: ImageFile) throws(StoreError) -> Qcow2Mapping {
    guard let mapping = layout.meaning(of: entry) else { throw .corrupt(.entry(.l2, entry)) }
    switch mapping {
    case .data(let host, _), .compressed(let host, _):
      guard try file.contains(host) else { throw .corrupt(.entry(.l2, entry)) }
    case .unallocated, .zeros: break
    }
    return mapping
  }

  /// The L2 table of an L1 entry, as its place among those kept; nil inside when there is none.
  mutating func table(_ index: Int, from file: ImageFile, mayWait: Bool) throws(StoreError) -> Int?? {
    guard let offset = try l2Offset(index, in: file) else { return .some(nil) }
    if let slot = l2.find(offset) { return slot }
    guard mayWait || file.isInMemory else { return nil }
    return l2.add(offset, try file.bytes(at: offset, count: layout.clusterByteCount).bigEndianEntries)
  }

  func l2Offset(_ index: Int, in file: ImageFile) throws(StoreError) -> UInt64? {
    guard l1.indices.contains(index), l1[index] != 0 else { return nil }
    let offset = l1[index] & Qcow2Layout.offsetMask
    guard l1[index] & ~(Qcow2Layout.offsetMask | Qcow2Layout.isOwn) == 0, offset & layout.clusterMask == 0, offset > 0,
      try file.contains(offset)
    else { throw .corrupt(.entry(.l1, l1[index])) }
    return offset
  }

  // MARK: - Operations under way

  /// Finds an extent and counts an operation that uses it without holding anything.
  mutating func begin(
    at place: UInt64, most: Int, isWrite: Bool, from file: ImageFile, mayWait: Bool
  ) throws(StoreError) -> (extent: Qcow2Extent, operation: UInt64)? {
    guard let extent = try extent(at: place, most: most, isWrite: isWrite, from: file, mayWait: mayWait) else {
      return nil
    }
    return (extent, operations.begin())
  }

  mutating func end(_ operation: UInt64) { operations.end(operation) }

  /// A mark in time: operations that begin from here on know of all that was published.
  mutating func mark() -> UInt64 { operations.mark() }
}

/// A part of the disk that is in one place.
struct Qcow2Extent: Equatable, Sendable {
  enum Source: Equatable, Sendable {
    /// Not in this image: the backing file's bytes, or zeros without one.
    case nothing
    case zeros
    /// At this offset in the file.
    case host(UInt64)
    /// Compressed, in so many bytes from this offset on; the cluster is expanded as a whole.
    case compressed(UInt64, byteCount: Int)
  }

  var source: Source
  var byteCount: Int
  /// Whether nobody else refers to it, so that it may be written where it is.
  var isOwn = false

  /// Whether what follows can be one with it.
  var canGrow: Bool {
    if case .compressed = source { false } else { true }
  }

  /// - Returns: false when what follows on the disk does not follow in the file.
  mutating func grow(by next: Qcow2Extent) -> Bool {
    switch (source, next.source) {
    case (.nothing, .nothing), (.zeros, .zeros): break
    case (.host(let start), .host(let following)):
      guard following == start + UInt64(byteCount), isOwn == next.isOwn else { return false }
    default: return false
    }
    byteCount += next.byteCount
    return true
  }
}

/// Tells when all operations that had begun before something are over.
struct OperationClock: Sendable {
  private var now: UInt64 = 0
  private var active: [UInt64: Int] = [:]

  mutating func begin() -> UInt64 {
    active[now, default: 0] += 1
    return now
  }

  mutating func end(_ operation: UInt64) {
    guard let count = active[operation] else { return }
    active[operation] = count > 1 ? count - 1 : nil
  }

  /// A mark: whatever begins from here on does not know what was there before.
  mutating func mark() -> UInt64 {
    defer { now += 1 }
    return now
  }

  func isOver(_ mark: UInt64) -> Bool {
    active.keys.allSatisfy { $0 > mark }
  }
}
