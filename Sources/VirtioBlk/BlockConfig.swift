/// `struct virtio_blk_config`: 96 bytes, little-endian (5.2.4). A driver looks at no field whose feature it did not accept.
struct BlockConfig {
  static let byteCount = 96
  /// Where the driver may write: `writeback`.
  static let writebackOffset = 32

  /// The longest range that one segment of a discard or a write of zeros may have, in sectors: 2 GiB.
  static let mostSectors: UInt32 = 1 << 22
  /// The most segments that one such request may have.
  static let mostSegments: UInt32 = 16

  private(set) var bytes = [UInt8](repeating: 0, count: byteCount)

  init(_ options: BlockOptions, _ store: any BlockStore) {
    let limits = store.limits
    let blockSectors = UInt32(limits.discardByteCount / 512)
    put(store.byteCount / 512, at: 0)
    put(options.sizeMax ?? 0, at: 8)
    put(options.segmentMax, at: 12)
    put(UInt32(limits.blockByteCount), at: 20)
    let ratio = max(1, limits.physicalBlockByteCount / limits.blockByteCount)
    put(UInt8(ratio.trailingZeroBitCount), at: 24)
    put(UInt16(1), at: 26)
    put(UInt32(ratio), at: 28)
    put(UInt16(options.queueCount), at: 34)
    put(Self.mostSectors, at: 36)
    put(Self.mostSegments, at: 40)
    put(blockSectors, at: 44)
    put(Self.mostSectors, at: 48)
    put(Self.mostSegments, at: 52)
    // A write of zeros may give space back wherever a discard does.
    put(UInt8(limits.canDiscard ? 1 : 0), at: 56)
  }

  var writeback: UInt8 {
    get { bytes[Self.writebackOffset] }
    set { bytes[Self.writebackOffset] = newValue }
  }

  mutating func setCapacity(byteCount: UInt64) {
    put(byteCount / 512, at: 0)
  }

  private mutating func put<Integer: FixedWidthInteger>(_ value: Integer, at offset: Int) {
    for place in 0..<Integer.bitWidth / 8 {
      bytes[offset + place] = UInt8(truncatingIfNeeded: value >> Integer(8 * place))
    }
  }
}
