/// What a server offers under a name, as agreed with it.
struct NBDExport: Equatable, Sendable {
  /// The longest request that any server takes if it does not say otherwise; longer ones are never made.
  static let defaultMaximum: UInt32 = 32 << 20
  private static let largestMinimum: UInt32 = 64 << 10

  let byteCount: UInt64
  let flags: NBDFlags
  /// Whether replies come in chunks.
  let isStructured: Bool
  /// The smallest unit of a request, from 512 on, in bytes.
  let blockByteCount: Int
  /// The unit that the server likes best.
  let preferredByteCount: Int
  /// The most bytes of a request with data: whole blocks.
  let maximumByteCount: Int

  /// Sizes of blocks as a server states them.
  struct BlockSizes: Equatable {
    var minimum: UInt32 = 1
    var preferred: UInt32 = 4096
    var maximum = NBDExport.defaultMaximum
  }

  init(byteCount: UInt64, flags: UInt16, sizes: BlockSizes, isStructured: Bool) throws(NBDError) {
    let block = max(512, sizes.minimum)
    guard sizes.minimum.isPowerOfTwo, sizes.minimum <= Self.largestMinimum, sizes.preferred.isPowerOfTwo,
      sizes.preferred >= sizes.minimum, sizes.maximum >= block
    else {
      throw .illegalBlockSizes(minimum: sizes.minimum, preferred: sizes.preferred, maximum: sizes.maximum)
    }
    guard byteCount % UInt64(block) == 0, byteCount <= UInt64(Int.max) else { throw .illegalSize(byteCount) }
    self.byteCount = byteCount
    self.flags = NBDFlags(rawValue: flags)
    self.isStructured = isStructured
    blockByteCount = Int(block)
    preferredByteCount = Int(min(max(sizes.preferred, block), Self.defaultMaximum))
    maximumByteCount = Int(min(sizes.maximum, Self.defaultMaximum) / block * block)
  }

  /// Whether it can take the place of the export that a disk began with.
  func check(against first: NBDExport) throws(NBDError) {
    guard byteCount >= first.byteCount else { throw .shrunk(from: first.byteCount, to: byteCount) }
    guard first.flags.contains(.readOnly) || !flags.contains(.readOnly) else { throw .lostWriteAccess }
    guard blockByteCount <= first.blockByteCount else {
      throw .blocksGrew(from: first.blockByteCount, to: blockByteCount)
    }
  }
}

extension UInt32 {
  fileprivate var isPowerOfTwo: Bool { nonzeroBitCount == 1 }
}
