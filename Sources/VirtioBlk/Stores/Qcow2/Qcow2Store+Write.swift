import Synchronization

/// Where bytes for an image come from.
protocol WriteSource: ~Copyable {
  mutating func write(_ part: Range<Int>, to file: ImageFile, at offset: UInt64) throws(StoreError)
}

extension BlockData: WriteSource {
  mutating func write(_ part: Range<Int>, to file: ImageFile, at offset: UInt64) throws(StoreError) {
    _ = try drain(part) { (vectors) throws(StoreError) in
      try file.write(vectors, at: offset)
      return part.count
    }
  }
}

/// Nothing but zeros.
struct ZeroSource: WriteSource {
  mutating func write(_ part: Range<Int>, to file: ImageFile, at offset: UInt64) throws(StoreError) {
    try file.zero(at: offset, byteCount: part.count)
  }
}

extension Qcow2Store {
  /// Writes `byteCount` bytes of the disk from `place` on, which may end later than the disk does.
  /// - Returns: false when that would have to wait and may not.
  func write<Source: WriteSource & ~Copyable>(
    _ byteCount: Int, of source: inout Source, at place: UInt64, mayWait: Bool
  ) throws(StoreError) -> Bool {
    if !isPrepared.load(ordering: .acquiring) {
      guard mayWait else { return false }
      try change { _ in }
    }
    var done = 0
    while done < byteCount {
      let here = place + UInt64(done)
      guard var count = try writeInPlace(done..<byteCount, of: &source, at: here, mayWait: mayWait) else {
        return false
      }
      if count == 0, mayWait { count = try writeAnew(done..<byteCount, of: &source, at: here) }
      guard count > 0 else { return false }
      done += count
    }
    return true
  }

  /// Writes the first bytes of `part` if there is a cluster for them that nobody else refers to.
  /// - Returns: how many were written, 0 if there is none; nil when to know that would have to be waited for.
  private func writeInPlace<Source: WriteSource & ~Copyable>(
    _ part: Range<Int>, of source: inout Source, at place: UInt64, mayWait: Bool
  ) throws(StoreError) -> Int? {
    guard let (extent, operation) = try begin(at: place, most: part.count, isWrite: true, mayWait: mayWait) else {
      return nil
    }
    defer { end(operation) }
    guard case .host(let offset) = extent.source, extent.isOwn else { return 0 }
    try source.write(part.lowerBound..<part.lowerBound + extent.byteCount, to: file, at: offset)
    return extent.byteCount
  }

  /// Writes the first bytes of `part` to clusters of their own.
  /// - Returns: how many were written.
  private func writeAnew<Source: WriteSource & ~Copyable>(
    _ part: Range<Int>, of source: inout Source, at place: UInt64
  ) throws(StoreError) -> Int {
    try change { (changes) throws(StoreError) in
      // Somebody else may have made the clusters since.
      if let count = try writeInPlace(part, of: &source, at: place, mayWait: true), count > 0 { return count }
      try reclaimSome(&changes)
      try ownTable(for: place, &changes)
      let extent = try tables.withLock { (tables) throws(StoreError) in
        try tables.extent(at: place, most: part.count, isWrite: true, from: file, mayWait: true)
      }
      guard let extent else { return 0 }
      return try allocate(extent, part.lowerBound, of: &source, at: place, &changes)
    }
  }

  private func allocate<Source: WriteSource & ~Copyable>(
    _ extent: Qcow2Extent, _ start: Int, of source: inout Source, at place: UInt64, _ changes: inout Qcow2Changes
  ) throws(StoreError) -> Int {
    let wanted = layout.clusters(place, UInt64(extent.byteCount))
    let (clusters, isFresh) = try take(wanted.count, &changes)
    let first = place & ~layout.clusterMask
    let whole = first..<first + UInt64(clusters.count) << layout.clusterBits
    let written = place..<min(place + UInt64(extent.byteCount), whole.upperBound)
    let host = clusters.lowerBound << layout.clusterBits
    do throws(StoreError) {
      let head = try fill(whole.lowerBound..<written.lowerBound, extent.source, at: host, isFresh: isFresh)
      let tailHost = host + (written.upperBound - whole.lowerBound)
      let tail = try fill(written.upperBound..<whole.upperBound, extent.source, at: tailHost, isFresh: isFresh)
      try source.write(start..<start + written.count, to: file, at: host + (place - first))
      // What is beside it may long have been on the medium as it is, and must not be lost from there.
      if head || tail { try file.synchronize() }
    } catch {
      changes.putBack(clusters)
      throw error
    }
    try link(clusters.map { $0 << layout.clusterBits | Qcow2Layout.isOwn }, at: first, &changes)
    return written.count
  }

  /// Fills the part of a new cluster that is not written with what the disk has there.
  /// - Returns: whether anything had to be changed for it.
  private func fill(
    _ range: Range<UInt64>, _ source: Qcow2Extent.Source, at host: UInt64, isFresh: Bool
  ) throws(StoreError) -> Bool {
    guard !range.isEmpty else { return false }
    guard !readsAsZeros(source, range) else {
      if !isFresh { try file.zero(at: host, byteCount: range.count) }
      return !isFresh
    }
    var old = ByteTarget(byteCount: range.count)
    _ = try read(0..<range.count, of: &old, at: range.lowerBound, mayWait: true)
    try file.write(old.bytes, at: host)
    return true
  }

  /// Whether a range of the disk that is all in one state reads as zeros.
  func readsAsZeros(_ source: Qcow2Extent.Source, _ range: Range<UInt64>) -> Bool {
    switch source {
    case .zeros: true
    case .nothing: range.lowerBound >= backing?.byteCount ?? 0
    case .host, .compressed: false
    }
  }

  // MARK: - Tables

  /// Makes sure that there is an L2 table for a place and that nobody else refers to it.
  func ownTable(for place: UInt64, _ changes: inout Qcow2Changes) throws(StoreError) {
    let index = layout.l1Index(place)
    let old = try tables.withLock { (tables) throws(StoreError) in try tables.wholeTable(index, from: file) }
    guard !old.isOwn else { return }
    let (clusters, _) = try take(1, &changes)
    let offset = clusters.lowerBound << layout.clusterBits
    let entries = (old.entries ?? [UInt64](repeating: 0, count: layout.entriesPerCluster)).map { (entry) in
      // Two tables refer to the cluster now.
      entry & Qcow2Layout.isCompressed == 0 ? entry & ~Qcow2Layout.isOwn : entry
    }
    do throws(StoreError) {
      try file.write([UInt8](bigEndian: entries), at: offset)
      try file.synchronize()
    } catch {
      changes.putBack(clusters)
      throw error
    }
    let entry = offset | Qcow2Layout.isOwn
    let entryOffset = tables.withLock { (tables) in tables.l1Offset + UInt64(index) * 8 }
    try file.write([UInt8](bigEndian: CollectionOfOne(entry)), at: entryOffset)
    let (retired, mark) = try tables.withLock { (tables) throws(StoreError) in
      (try tables.setTable(entry, entries, at: index), tables.mark())
    }
    retire(retired, mark, &changes)
  }

  /// Lets the disk's clusters from `place` on be what `entries` say; all belong to one L2 table, which is our own.
  func link(_ entries: [UInt64], at place: UInt64, _ changes: inout Qcow2Changes) throws(StoreError) {
    let (offset, old) = try tables.withLock { (tables) throws(StoreError) in
      (
        try tables.entryOffset(of: place, in: file),
        try tables.entries(at: place, count: entries.count, from: file) ?? []
      )
    }
    guard let offset else { return }
    try file.write([UInt8](bigEndian: entries), at: offset)
    let (retired, mark) = try tables.withLock { (tables) throws(StoreError) in
      (try tables.replace(old, with: entries, at: place, from: file), tables.mark())
    }
    retire(retired, mark, &changes)
  }
}
