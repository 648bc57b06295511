import Synchronization

/// What whoever changes an image needs, one at a time.
///
/// The order of writes keeps the image in order whenever the process is killed or power is lost; at worst clusters
/// count as used that are not ("leaked"):
/// - A cluster counts as used, in the file and on the medium, before anything refers to it. Clusters are set aside in
///   batches, so that the barrier for it is paid once for many.
/// - A table is on the medium before another leads to it, and so is data that was copied from elsewhere. New data is
///   not waited for: it is the driver's to flush.
/// - What is not referred to any more counts as free only when the medium knows that nothing refers to it.
struct Qcow2Changes: Sendable {
  /// How many bytes of clusters are set aside at a time, at least one cluster.
  static let reserveByteCount = 4 << 20
  /// How many stretches of clusters that are not used any more are kept until the next flush.
  static let retiredLimit = 256
  /// How many bytes of them are kept.
  static let retiredByteLimit = 1 << 20

  struct Retired: Sendable {
    var clusters: Range<UInt64>
    /// Operations that began before may still use them.
    var mark: UInt64
  }

  var header: Qcow2Header
  /// Nil until the image is first changed.
  var refcounts: Qcow2Refcounts?
  /// Counted as used, and free for the next who needs them.
  var reserved: Range<UInt64> = 0..<0
  /// Of those, nothing was ever written to the ones from here on.
  var freshFrom: UInt64 = 0
  var retired: [Retired] = []

  init(_ header: Qcow2Header) {
    self.header = header
  }

  /// Calls for the refcounts, which there are since `Qcow2Store.prepare`.
  mutating func withRefcounts<Result>(
    _ body: (inout Qcow2Refcounts) throws(StoreError) -> Result
  ) throws(StoreError) -> Result {
    guard var refcounts else { throw .readOnly }
    // Moved out and back, so that nothing is copied.
    self.refcounts = nil
    defer { self.refcounts = refcounts }
    return try body(&refcounts)
  }

  /// Gives clusters back that were taken and that nothing refers to, not even after a failure.
  mutating func putBack(_ clusters: Range<UInt64>) {
    guard clusters.upperBound == reserved.lowerBound || reserved.isEmpty else { return }
    freshFrom = max(freshFrom, clusters.upperBound)
    reserved = clusters.lowerBound..<(reserved.isEmpty ? clusters.upperBound : reserved.upperBound)
  }
}

extension Qcow2Store {
  /// Changes the image, alone.
  func change<Result>(
    _ body: (inout Qcow2Changes) throws(StoreError) -> Result
  ) throws(StoreError) -> sending Result where Result: Sendable {
    try changes.withLock { (changes) throws(StoreError) in
      try prepare(&changes)
      return try body(&changes)
    }
  }

  /// Makes an image ready to be changed: that is not done when it is opened, since it may still be in use elsewhere.
  private func prepare(_ changes: inout Qcow2Changes) throws(StoreError) {
    try checkWritable()
    guard changes.refcounts == nil else { return }
    try reload(&changes)
    var refcounts = try Qcow2Refcounts(changes.header, of: file)
    try tables.withLock { (tables) throws(StoreError) in try tables.claimAll(refcounts, of: file) }
    if changes.header.isDirty { try repair(&refcounts, &changes.header) }
    if changes.header.version >= 3, changes.header.autoclear != 0 {
      try file.write([UInt8](repeating: 0, count: 8), at: Qcow2Header.Place.autoclear)
      changes.header.autoclear = 0
      try file.synchronize()
    }
    changes.refcounts = refcounts
    isPrepared.store(true, ordering: .releasing)
  }

  private func repair(_ refcounts: inout Qcow2Refcounts, _ header: inout Qcow2Header) throws(StoreError) {
    var repair = try Qcow2Repair(header, of: file)
    try tables.withLock { (tables) throws(StoreError) in try repair.run(&tables, &refcounts, in: file) }
    header.incompatible &= ~Qcow2Header.Incompatible.dirty
    try file.write([UInt8](bigEndian: CollectionOfOne(header.incompatible)), at: Qcow2Header.Place.incompatible)
    try file.synchronize()
  }

  // MARK: - Taking and giving back

  /// Takes clusters that lie side by side.
  /// - Returns: at least one, and whether nothing was ever written to them.
  func take(_ most: Int, _ changes: inout Qcow2Changes) throws(StoreError) -> (clusters: Range<UInt64>, isFresh: Bool) {
    if changes.reserved.isEmpty {
      let batch = max(1, Qcow2Changes.reserveByteCount / layout.clusterByteCount)
      let (clusters, isFresh) = try reserve(atLeast: 1, most: max(most, batch), &changes)
      changes.reserved = clusters
      changes.freshFrom = isFresh ? clusters.lowerBound : clusters.upperBound
    }
    let start = changes.reserved.lowerBound
    let end = min(changes.reserved.upperBound, start + UInt64(max(1, most)))
    changes.reserved = end..<changes.reserved.upperBound
    return (start..<end, start >= changes.freshFrom)
  }

  /// Takes clusters that were not set aside before.
  func reserve(
    atLeast least: Int, most: Int, _ changes: inout Qcow2Changes
  ) throws(StoreError) -> (clusters: Range<UInt64>, isFresh: Bool) {
    let (result, abandoned) = try changes.withRefcounts { (refcounts) throws(StoreError) in
      let result = try refcounts.reserve(atLeast: least, most: most, in: file, tables)
      defer { refcounts.abandoned = [] }
      return (result, refcounts.abandoned)
    }
    let mark = tables.withLock { (tables) in
      for clusters in abandoned { tables.unclaim(clusters) }
      return tables.mark()
    }
    retire(abandoned, mark, &changes)
    return result
  }

  /// Notes clusters as not used any more by whoever begins after `mark`.
  func retire(_ clusters: [Range<UInt64>], _ mark: UInt64, _ changes: inout Qcow2Changes) {
    changes.retired += clusters.map { Qcow2Changes.Retired(clusters: $0, mark: mark) }
  }

  /// Gives back what nobody uses any more, when there is much of it.
  func reclaimSome(_ changes: inout Qcow2Changes) throws(StoreError) {
    let clusterCount = changes.retired.reduce(0) { $0 + $1.clusters.count }
    guard
      changes.retired.count > Qcow2Changes.retiredLimit
        || clusterCount >= Qcow2Changes.retiredByteLimit >> layout.clusterBits
    else { return }
    try file.synchronize()
    try reclaim(upTo: .max, &changes)
  }

  /// Gives clusters back that nobody uses any more.
  /// - Parameter mark: clusters retired since are kept: the medium does not know yet that nothing refers to them.
  func reclaim(upTo mark: UInt64, _ changes: inout Qcow2Changes) throws(StoreError) {
    let operations = tables.withLock { (tables) in tables.operations }
    let over = changes.retired.filter { $0.mark <= mark && operations.isOver($0.mark) }
    changes.retired.removeAll { $0.mark <= mark && operations.isOver($0.mark) }
    for retired in over { try free(retired.clusters, &changes) }
  }

  private func free(_ clusters: Range<UInt64>, _ changes: inout Qcow2Changes) throws(StoreError) {
    let free = try changes.withRefcounts { (refcounts) throws(StoreError) in
      try refcounts.release(clusters, in: file)
    }
    for range in free {
      try file.punch(at: range.lowerBound << layout.clusterBits, byteCount: range.count << Int(layout.clusterBits))
    }
  }

  /// Gives back all that is set aside or not used any more, so that nothing is leaked.
  func settle(_ changes: inout Qcow2Changes) throws(StoreError) {
    guard changes.refcounts != nil, !isReadOnly else { return }
    try file.synchronize()
    try reclaim(upTo: .max, &changes)
    let reserved = changes.reserved
    changes.reserved = 0..<0
    if !reserved.isEmpty { try free(reserved, &changes) }
    try file.synchronize()
  }
}
