public import VirtioCore

/// The feature bits of the block device (5.2.3).
extension Feature {
  /// `VIRTIO_BLK_F_SIZE_MAX`
  public static let blockSizeMax = Feature(rawValue: 1)
  /// `VIRTIO_BLK_F_SEG_MAX`
  public static let blockSegmentMax = Feature(rawValue: 2)
  /// `VIRTIO_BLK_F_RO`
  public static let blockReadOnly = Feature(rawValue: 5)
  /// `VIRTIO_BLK_F_BLK_SIZE`
  public static let blockSize = Feature(rawValue: 6)
  /// `VIRTIO_BLK_F_FLUSH`
  public static let blockFlush = Feature(rawValue: 9)
  /// `VIRTIO_BLK_F_TOPOLOGY`
  public static let blockTopology = Feature(rawValue: 10)
  /// `VIRTIO_BLK_F_CONFIG_WCE`
  public static let blockConfigWriteback = Feature(rawValue: 11)
  /// `VIRTIO_BLK_F_MQ`
  public static let blockMultiqueue = Feature(rawValue: 12)
  /// `VIRTIO_BLK_F_DISCARD`
  public static let blockDiscard = Feature(rawValue: 13)
  /// `VIRTIO_BLK_F_WRITE_ZEROES`
  public static let blockWriteZeroes = Feature(rawValue: 14)

  /// The names of the features that the device may have, by bit, without `VIRTIO_BLK_F_`; those too that are not offered here.
  public static let blockNames: [Int: String] = [
    1: "SIZE_MAX", 2: "SEG_MAX", 4: "GEOMETRY", 5: "RO", 6: "BLK_SIZE", 9: "FLUSH", 10: "TOPOLOGY", 11: "CONFIG_WCE",
    12: "MQ", 13: "DISCARD", 14: "WRITE_ZEROES", 15: "LIFETIME", 16: "SECURE_ERASE", 17: "ZONED",
  ]
}

/// What a block device offers its driver, beside what its store determines.
public struct BlockOptions: Equatable, Sendable {
  /// What `VIRTIO_BLK_T_GET_ID` answers: at most 20 bytes of UTF-8.
  public var identifier = "virtiokit"
  /// Number of request queues, 1 to 256.
  public var queueCount: UInt16 = 1
  /// The largest size of each queue: a power of two, 4 to 32768. A front-end may choose any smaller one.
  public var queueSize: UInt16 = 1024
  /// How many buffers of data a driver puts into one request.
  public var segmentMax: UInt32 = 126
  /// How many bytes a driver puts into one buffer; nil for as many as it likes.
  public var sizeMax: UInt32?
  /// Offer to flush. Without it nothing that is written is promised to survive a loss of power (5.2.6.2).
  public var flush = true
  /// Let the driver choose between write-back and write-through.
  public var configurableWriteback = true
  /// Offer to give up what is not needed, where the store can.
  public var discard = true
  /// Offer to write zeros without sending them.
  public var writeZeroes = true

  public init() {}

  func features(_ store: any BlockStore) -> Features {
    var features: Features = [.blockSegmentMax, .blockSize, .blockTopology]
    if sizeMax != nil { features.insert(.blockSizeMax) }
    if queueCount > 1 { features.insert(.blockMultiqueue) }
    if flush { features.insert(.blockFlush) }
    // A disk that says when it has written has to be able to wait for it (5.2.5.2).
    if flush, configurableWriteback { features.insert(.blockConfigWriteback) }
    if store.isReadOnly {
      features.insert(.blockReadOnly)
    } else {
      if discard, store.limits.canDiscard { features.insert(.blockDiscard) }
      if writeZeroes { features.insert(.blockWriteZeroes) }
    }
    return features
  }
}
