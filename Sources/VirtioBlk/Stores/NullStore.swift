/// A disk that keeps nothing and does nothing: what is left of a request is the cost of the device itself.
public final class NullStore: BlockStore {
  public let byteCount: UInt64
  public let isReadOnly = false
  public let limits = BlockLimits()

  /// Whether what is read is zeros; without it the driver's memory stays as it is.
  private let readsZeros: Bool

  public init(byteCount: UInt64, readsZeros: Bool = false) throws(StoreError) {
    guard byteCount > 0, byteCount % 512 == 0 else { throw .illegalSize(byteCount) }
    self.byteCount = byteCount
    self.readsZeros = readsZeros
  }

  public func perform(
    _ operation: BlockOperation, _ data: inout BlockData, mayWait: Bool
  ) throws(StoreError) -> Bool {
    if case .read = operation, readsZeros { try data.zero(0..<data.byteCount) }
    return true
  }
}
