import GuestRAM

/// The driver's own reading of 2.7: where the parts of a split virtqueue lie, and behind them what the driver keeps.
///
/// The numbers are written down here and not taken from the device's side, so that a wrong one does not agree with itself.
struct DriverRing {
  let size: UInt16
  /// The descriptor area: a multiple of 16 (2.7).
  let descriptors: GuestAddress

  private var entries: UInt64 { UInt64(size) }
  /// The driver area, behind the 16 bytes of each descriptor.
  var available: GuestAddress { descriptors + 16 &* entries }
  /// The device area: a multiple of 4. The available ring is 6 bytes and 2 for each entry.
  var used: GuestAddress { descriptors + Self.rounded(18 &* entries &+ 6, to: 4) }
  /// What only the driver uses: its indices, then a token and a capacity for each chain.
  var cells: GuestAddress {
    let usedEnd = Self.rounded(18 &* entries &+ 6, to: 4) &+ 8 &* entries &+ 6
    return descriptors + Self.rounded(usedEnd, to: 8)
  }

  /// The bytes that a queue and its driver's notes take, all in one piece.
  static func byteCount(size: UInt16) -> UInt64 {
    let ring = DriverRing(size: size, descriptors: GuestAddress(0))
    return ring.cells.rawValue + 8 * DriverQueueCell.firstToken + 8 * UInt64(size)
  }

  private static func rounded(_ count: UInt64, to multiple: UInt64) -> UInt64 {
    (count &+ multiple &- 1) / multiple &* multiple
  }

  // 2.7.5: le64 addr, le32 len, le16 flags, le16 next.
  func descriptor(_ index: UInt16, in table: GuestAddress) -> GuestAddress { table + 16 &* UInt64(index) }

  // 2.7.6: le16 flags, le16 idx, le16 ring[size], le16 used_event.
  var availableFlags: GuestAddress { available }
  var availableIndex: GuestAddress { available + 2 }
  func availableEntry(_ index: UInt16) -> GuestAddress { available + 4 + 2 &* UInt64(index & (size &- 1)) }
  var usedEvent: GuestAddress { available + 4 + 2 &* entries }

  // 2.7.8: le16 flags, le16 idx, { le32 id, le32 len } ring[size], le16 avail_event.
  var usedFlags: GuestAddress { used }
  var usedIndex: GuestAddress { used + 2 }
  func usedEntry(_ index: UInt16) -> GuestAddress { used + 4 + 8 &* UInt64(index & (size &- 1)) }
  var availableEvent: GuestAddress { used + 4 + 8 &* entries }
}

/// `VIRTQ_DESC_F_*` of 2.7.5, and the flag of either ring.
enum RingBit {
  static let next: UInt16 = 1
  static let write: UInt16 = 2
  static let indirect: UInt16 = 4
  /// `VIRTQ_AVAIL_F_NO_INTERRUPT`
  static let noInterrupt: UInt16 = 1
  /// `VIRTQ_USED_F_NO_NOTIFY`
  static let noNotify: UInt16 = 1
}

/// What a driver must remember of a queue beside the rings; it migrates with the guest's memory.
enum DriverQueueCell: RawRepresentable {
  case freeHead, freeCount
  /// The available index with what has been added and not yet been published.
  case nextAvailable
  case lastUsed
  /// The available index at the last decision to notify.
  case notified
  /// The last chain of a batch used in order that is being taken apart, plus 1; or 0.
  case batchEnd
  case batchWritten
  /// What the chain that begins with this descriptor is for, and how many bytes the device may write into it.
  case token(UInt16)

  static let firstToken: UInt64 = 8

  var rawValue: UInt64 {
    switch self {
    case .freeHead: 0
    case .freeCount: 1
    case .nextAvailable: 2
    case .lastUsed: 3
    case .notified: 4
    case .batchEnd: 5
    case .batchWritten: 6
    case .token(let head): Self.firstToken + UInt64(head)
    }
  }

  /// Cells are only ever named; none is looked up by its number.
  init?(rawValue: UInt64) { nil }
}
