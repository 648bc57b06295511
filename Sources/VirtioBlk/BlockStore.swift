/// Where a disk's bytes are kept.
///
/// Calls come from several threads at once and may overlap in time; those that overlap in place have no order. Whoever
/// calls keeps every range within `byteCount`.
public protocol BlockStore: AnyObject, Sendable {
  /// The disk's size in bytes, a multiple of 512. It changes with `resize`, and when the
  /// store is refreshed or becomes exclusive.
  var byteCount: UInt64 { get }

  /// Whether everything but reading and flushing is refused.
  var isReadOnly: Bool { get }

  /// What a driver should know of the medium.
  var limits: BlockLimits { get }

  /// Carries one operation out, whole or not at all as far as the caller can rely on.
  ///
  /// - Parameters:
  ///   - data: what to write, or where to put what was read; its length is the operation's. Empty for all others.
  ///   - mayWait: whether the caller can wait for the medium. One that cannot is on a thread with more to do.
  /// - Returns: false when the operation would have to wait and may not; it has then not begun, as far as anybody can tell.
  func perform(_ operation: BlockOperation, _ data: inout BlockData, mayWait: Bool) throws(StoreError) -> Bool

  /// Makes the disk smaller or larger. What is added reads as zeros.
  func resize(toByteCount byteCount: UInt64) throws(StoreError)

  /// Looks again how large the disk is, which may have changed where it was in use.
  func refresh() throws(StoreError)

  /// Lets nobody else write to the medium, or use it while it is written here; `false` gives that up again. A store
  /// opens without it, since a disk that moves is opened here while it is still written elsewhere.
  func setExclusive(_ isExclusive: Bool) throws(StoreError)
}

extension BlockStore {
  public func resize(toByteCount byteCount: UInt64) throws(StoreError) { throw .fixedSize }

  public func refresh() throws(StoreError) {}

  public func setExclusive(_ isExclusive: Bool) throws(StoreError) {}
}

/// What a store can be asked to do. Places and lengths are in bytes, multiples of 512.
public enum BlockOperation: Equatable, Sendable {
  case read(at: UInt64)
  case write(at: UInt64)
  /// Makes everything written before survive a loss of power.
  case flush
  /// The bytes are not needed any more: they may read as anything until they are written.
  case discard(Range<UInt64>)
  /// The bytes read as zeros. `mayUnmap` lets the store give their space back for it.
  case writeZeroes(Range<UInt64>, mayUnmap: Bool)

  /// Whether the medium is changed.
  public var isWrite: Bool {
    switch self {
    case .read, .flush: false
    case .write, .discard, .writeZeroes: true
    }
  }
}

/// Which operation failed, of those that a request needs.
struct OperationFailure: Equatable, Sendable {
  let operation: BlockOperation
  let reason: StoreError
}

/// What a driver should know of a medium to use it well.
public struct BlockLimits: Equatable, Sendable {
  /// The smallest unit that can be read or written, in bytes; a power of two from 512 on.
  public var blockByteCount = 512
  /// The unit below which a write costs a read, in bytes; at least a block.
  public var physicalBlockByteCount = 4096
  /// The unit in which space is given back, in bytes; at least a block.
  public var discardByteCount = 4096
  /// Whether `BlockOperation.discard` gives space back.
  public var canDiscard = true

  public init() {}
}
