import LinuxIO
import Synchronization

/// A qcow2 image, version 2 or 3 (QEMU `docs/interop/qcow2.txt`): a disk that takes the space that was written, on top
/// of another image if it has one.
///
/// Internal snapshots are kept as they are. Encryption, external data files, extended L2 entries and compression other
/// than zlib's are refused when the image is opened.
///
/// Whoever holds the lock of the changes alone changes tables and refcounts; the tables' own lock is held for looking
/// up and publishing only. Data of clusters that are there is read and written under neither: what such an operation
/// found is not given to anybody else before the operation is over.
public final class Qcow2Store: BlockStore {
  /// How many images may stand on each other.
  public static let largestChainDepth = 8

  public let limits: BlockLimits
  /// The path of the image that this one stands on; nil if it stands on none.
  public let backingPath: String?

  let file: ImageFile
  let backing: Qcow2Backing?
  let layout: Qcow2Layout
  let tables: Mutex<Qcow2Tables>
  let changes: Mutex<Qcow2Changes>
  /// Whether the image may be written where it is without asking further.
  let isPrepared = Atomic(false)
  let size: Atomic<UInt64>
  private let opensReadOnly: Bool
  private let damage = Mutex<Qcow2Error?>(nil)

  /// Opens the image at `path`, and the images it stands on for reading.
  public convenience init(path: String, isReadOnly: Bool = false) throws(StoreError) {
    let file = try ImageFile(path: path, isWritable: !isReadOnly)
    try self.init(file, path: path, isReadOnly: isReadOnly)
  }

  /// - Parameter above: the paths of the images that stand on this one, the topmost first.
  init(_ file: ImageFile, path: String, isReadOnly: Bool, above: [String] = []) throws(StoreError) {
    let header = try Qcow2Header(of: file)
    guard isReadOnly || !header.isMarkedCorrupt else { throw .image(.markedCorrupt) }
    self.file = file
    layout = header.layout
    size = Atomic(header.byteCount & ~511)
    opensReadOnly = isReadOnly
    backingPath = try Qcow2Backing.path(of: header, at: path)
    backing = try Qcow2Backing(of: header, at: path, above: above)
    tables = Mutex(try Qcow2Tables(header, of: file))
    changes = Mutex(Qcow2Changes(header))
    limits = Self.limits(header, isReadOnly: isReadOnly)
  }

  private static func limits(_ header: Qcow2Header, isReadOnly: Bool) -> BlockLimits {
    var limits = BlockLimits()
    limits.discardByteCount = header.layout.clusterByteCount
    limits.physicalBlockByteCount = min(limits.physicalBlockByteCount, header.layout.clusterByteCount)
    limits.canDiscard = !isReadOnly && (header.version >= 3 || header.backingName == nil)
    return limits
  }

  public var byteCount: UInt64 { size.load(ordering: .acquiring) }

  public var isReadOnly: Bool { opensReadOnly || damage.withLock { $0 != nil } }

  deinit {
    // Without it clusters would be leaked, which is all that can come of a failure.
    _ = try? changes.withLock { (changes) throws(StoreError) in try settle(&changes) }
  }

  public func perform(
    _ operation: BlockOperation, _ data: inout BlockData, mayWait: Bool
  ) throws(StoreError) -> Bool {
    do throws(StoreError) {
      return try carryOut(operation, &data, mayWait: mayWait || file.isInMemory && backing == nil)
    } catch {
      noteDamage(error)
      throw error
    }
  }

  private func carryOut(
    _ operation: BlockOperation, _ data: inout BlockData, mayWait: Bool
  ) throws(StoreError) -> Bool {
    if operation.isWrite { try checkWritable() }
    switch operation {
    case .read(let place):
      try check(place, data.byteCount)
      return try read(0..<data.byteCount, of: &data, at: place, mayWait: mayWait)
    case .write(let place):
      try check(place, data.byteCount)
      return try write(data.byteCount, of: &data, at: place, mayWait: mayWait)
    case .flush, .discard, .writeZeroes:
      guard mayWait else { return false }
      try change(operation)
      return true
    }
  }

  private func change(_ operation: BlockOperation) throws(StoreError) {
    switch operation {
    case .discard(let range):
      try check(range.lowerBound, range.count)
      try discard(range)
    case .writeZeroes(let range, let mayUnmap):
      try check(range.lowerBound, range.count)
      try writeZeroes(range, mayUnmap: mayUnmap)
    default: try flush()
    }
  }

  private func flush() throws(StoreError) {
    guard !opensReadOnly else { return }
    let mark = tables.withLock { (tables) in tables.mark() }
    try file.synchronize()
    guard !isReadOnly, isPrepared.load(ordering: .acquiring) else { return }
    try change { (changes) throws(StoreError) in try reclaim(upTo: mark, &changes) }
  }

  /// Tells why the store cannot be written, if it cannot.
  func checkWritable() throws(StoreError) {
    guard !opensReadOnly else { throw .readOnly }
    if let damage = damage.withLock({ $0 }) { throw .image(damage) }
  }

  /// With the image to itself the store looks at it anew, since another may have written it until then.
  public func setExclusive(_ isExclusive: Bool) throws(StoreError) {
    try changes.withLock { (changes) throws(StoreError) in
      do throws(StoreError) {
        // What was set aside without the image to itself may be somebody's by now: then it is leaked.
        if !isExclusive { try settle(&changes) }
        forget(&changes)
        try file.setExclusive(isExclusive, isWriter: !opensReadOnly)
        try backing?.setExclusive(isExclusive)
        if isExclusive { try reload(&changes) }
      } catch {
        forget(&changes)
        try file.setExclusive(false, isWriter: !opensReadOnly)
        try backing?.setExclusive(false)
        throw error
      }
    }
  }

  private func forget(_ changes: inout Qcow2Changes) {
    changes = Qcow2Changes(changes.header)
    isPrepared.store(false, ordering: .releasing)
  }

  /// Takes what the file holds now, unless it holds what this store has changed.
  public func refresh() throws(StoreError) {
    try changes.withLock { (changes) throws(StoreError) in
      if changes.refcounts == nil { try reload(&changes) }
    }
  }

  /// Takes what the file holds now for what it held before.
  func reload(_ changes: inout Qcow2Changes) throws(StoreError) {
    try file.measure()
    let header = try Qcow2Header(of: file)
    guard opensReadOnly || !header.isMarkedCorrupt else { throw .image(.markedCorrupt) }
    guard header.layout == layout, header.backingName == changes.header.backingName,
      header.backingFormat == changes.header.backingFormat
    else { throw .image(.replaced) }
    try tables.withLock { (tables) throws(StoreError) in try tables.reload(header, of: file) }
    changes = Qcow2Changes(header)
    damage.withLock { $0 = nil }
    size.store(header.byteCount & ~511, ordering: .releasing)
  }

  /// An image that contradicts itself is not changed any more: what looks free may be somebody's data.
  private func noteDamage(_ error: StoreError) {
    guard case .image(let error) = error, case .corrupt = error else { return }
    damage.withLock { (damage) in damage = damage ?? error }
  }

  func check(_ place: UInt64, _ length: Int) throws(StoreError) {
    let byteCount = byteCount
    guard place <= byteCount, UInt64(length) <= byteCount - place else {
      throw .beyondEnd(at: place, byteCount: UInt64(length))
    }
  }
}
