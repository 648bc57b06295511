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

  let file: ImageFile
  let backing: Qcow2Backing?
  let layout: Qcow2Layout
  let tables: Mutex<Qcow2Tables>
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
    backing = try Qcow2Backing(of: header, path: path, above: above)
    tables = Mutex(try Qcow2Tables(header, of: file))
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

  public func perform(
    _ operation: BlockOperation, _ data: inout BlockData, mayWait: Bool
  ) throws(StoreError) -> Bool {
    do throws(StoreError) {
      switch operation {
      case .read(let place):
        try check(place, data.byteCount)
        return try read(0..<data.byteCount, of: &data, at: place, mayWait: mayWait)
      default: throw .readOnly
      }
    } catch {
      noteDamage(error)
      throw error
    }
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
