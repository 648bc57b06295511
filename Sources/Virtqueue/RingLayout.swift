/// Where the parts of a split virtqueue lie, in bytes (2.7, 2.7.5, 2.7.6, 2.7.8).
///
/// The descriptor table, the available ring and the used ring are three separate stretches of guest memory.
public enum RingLayout {
  /// The largest Queue Size (2.7): sizes are powers of two from 1 to this.
  public static let mostEntries: UInt16 = 32768

  public static let descriptorTableAlignment = 16
  public static let availableRingAlignment = 2
  public static let usedRingAlignment = 4
  /// The bytes of one descriptor: address u64, length u32, flags u16, next u16.
  public static let descriptorByteCount = 16

  /// Whether a Queue Size is legal.
  public static func isLegal(size: UInt16) -> Bool {
    size != 0 && size <= mostEntries && size & (size - 1) == 0
  }

  public static func descriptorTableByteCount(size: UInt16) -> Int {
    descriptorByteCount * Int(size)
  }

  /// - Parameter eventIndex: whether `VIRTIO_F_EVENT_IDX` was negotiated, so that `used_event` follows the ring.
  public static func availableRingByteCount(size: UInt16, eventIndex: Bool) -> Int {
    4 + 2 * Int(size) + (eventIndex ? 2 : 0)
  }

  /// - Parameter eventIndex: whether `VIRTIO_F_EVENT_IDX` was negotiated, so that `avail_event` follows the ring.
  public static func usedRingByteCount(size: UInt16, eventIndex: Bool) -> Int {
    4 + 8 * Int(size) + (eventIndex ? 2 : 0)
  }
}

extension RingLayout {
  @usableFromInline static let flagsOffset = 0
  @usableFromInline static let indexOffset = 2

  /// Where the entries of the available ring and of the used ring begin.
  static let entriesOffset = 4

  static func usedEventOffset(size: UInt16) -> Int { 4 + 2 * Int(size) }

  static func availableEventOffset(size: UInt16) -> Int { 4 + 8 * Int(size) }
}

/// The flags of a descriptor (2.7.5).
@usableFromInline
enum DescriptorFlags {
  /// `VIRTQ_DESC_F_NEXT`: the chain goes on at `next`.
  @usableFromInline static let next: UInt16 = 1
  /// `VIRTQ_DESC_F_WRITE`: the buffer is device-writable.
  @usableFromInline static let write: UInt16 = 2
  /// `VIRTQ_DESC_F_INDIRECT`: the buffer is a table of descriptors.
  @usableFromInline static let indirect: UInt16 = 4
}
