import GuestRAM

/// The driver's own reading of 5.2: feature bits, configuration, requests.
enum BlockFeatureBit {
  static let flush: UInt64 = 1 << 9
}

/// `struct virtio_blk_config` (5.2.4): le64 capacity, in sectors.
enum BlockConfigOffset {
  static let capacity = 0
}

/// The types of 5.2.6: le32 type, le32 reserved, le64 sector; data; u8 status.
enum BlockRequestType {
  static let read: UInt32 = 0
  static let write: UInt32 = 1
  static let flush: UInt32 = 4
  static let headerByteCount = 16
  static let statusDone: UInt8 = 0
}

/// Where the driver's parts lie behind its page.
struct BlockArea {
  let base: GuestAddress
  let blockCount: UInt64
  let slotCount: UInt64

  /// 16 bytes of header and one of status for each slot.
  private static let requestByteCount: UInt64 = 32
  static let fault: UInt64 = 2048
  static let requests: UInt64 = 2080

  var tables: GuestAddress { base + UInt64(GuestPage.byteCount) }
  private var tableByteCount: UInt64 { 8 &* blockCount }
  /// A page for each slot, each aligned as a transfer past the page cache wants it.
  private var dataStart: GuestAddress {
    let pages = (3 &* tableByteCount &+ UInt64(GuestPage.byteCount) &- 1) >> GuestPage.shift
    return tables + (pages << GuestPage.shift)
  }
  var byteCount: UInt64 { dataStart.rawValue &- base.rawValue &+ (slotCount << GuestPage.shift) }

  func header(_ slot: UInt64) -> GuestAddress { base + (Self.requests &+ Self.requestByteCount &* slot) }
  func status(_ slot: UInt64) -> GuestAddress { header(slot) + 16 }
  func data(_ slot: UInt64) -> GuestAddress { dataStart + (slot << GuestPage.shift) }
  func entry(_ block: UInt64, of table: BlockDriver.Table) -> GuestAddress {
    tables + (table.rawValue &* tableByteCount &+ 8 &* block)
  }
  func table(_ table: BlockDriver.Table) -> GuestAddress { entry(0, of: table) }
}

/// What the block driver keeps, in its page.
enum BlockCell: RawRepresentable {
  case features, blockCount, slotCount, queueAddress, queueSize
  /// Set when the device asked for a reset; the driver leaves it alone from then on.
  case isBroken
  /// No new requests are made.
  case isResting
  case nextSequence, issued, completed, reads, writes, flushes, configurationChanges
  case slot(UInt64, BlockDriver.SlotField)

  var rawValue: UInt64 {
    switch self {
    case .features: 0
    case .blockCount: 1
    case .slotCount: 2
    case .queueAddress: 3
    case .queueSize: 4
    case .isBroken: 5
    case .isResting: 6
    case .nextSequence: 7
    case .issued: 8
    case .completed: 9
    case .reads: 10
    case .writes: 11
    case .flushes: 12
    case .configurationChanges: 13
    case .slot(let slot, let field): 64 &+ 4 &* slot &+ field.rawValue
    }
  }

  /// Cells are only ever named; none is looked up by its number.
  init?(rawValue: UInt64) { nil }
}

/// What the guest writes into a block of 4096 bytes: in each of its sectors the sector's number, the sequence number of
/// the write, and words that follow from both. A block that was never written reads as zeros.
public struct BlockContent: Equatable, Sendable {
  public static let byteCount = 4096
  static let sectorsPerBlock: UInt64 = 8
  private static let sectorByteCount = 512

  public var block: UInt64
  /// 0 for none.
  public var sequence: UInt64

  public init(block: UInt64, sequence: UInt64) {
    self.block = block
    self.sequence = sequence
  }

  /// The 4096 bytes.
  public var bytes: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Self.byteCount)
    guard sequence != 0 else { return bytes }
    var span = bytes.mutableSpan
    for sector in 0..<Self.sectorsPerBlock {
      let start = Int(sector) * Self.sectorByteCount
      let number = block &* Self.sectorsPerBlock &+ sector
      put(number, at: start, in: &span)
      put(sequence, at: start + 8, in: &span)
      var state = GuestRandom.mix(number ^ GuestRandom.mix(sequence))
      for offset in stride(from: start + 16, to: start + Self.sectorByteCount, by: 8) {
        state = state &* 6_364_136_223_846_793_005 &+ GuestRandom.gamma
        put(state, at: offset, in: &span)
      }
    }
    return bytes
  }

  @inline(__always)
  private func put(_ word: UInt64, at offset: Int, in span: inout MutableSpan<UInt8>) {
    for byte in 0..<8 { span[offset &+ byte] = UInt8(truncatingIfNeeded: word &>> UInt64(8 &* byte)) }
  }
}
