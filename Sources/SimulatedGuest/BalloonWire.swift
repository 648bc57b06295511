import GuestRAM

/// The driver's own reading of 2.1, 6 and 5.5: numbers of the device status, of features and of the configuration space.
enum DriverStatus {
  static let acknowledge: UInt8 = 1
  static let driver: UInt8 = 2
  static let driverOK: UInt8 = 4
  static let featuresOK: UInt8 = 8
  static let needsReset: UInt8 = 64
  static let failed: UInt8 = 128
}

enum RingFeatureBit {
  static let indirectDescriptors: UInt64 = 1 << 28
  static let eventIndex: UInt64 = 1 << 29
  static let version1: UInt64 = 1 << 32
  static let inOrder: UInt64 = 1 << 35
}

/// `struct virtio_balloon_config` (5.5.4): offsets of its 32-bit fields.
enum BalloonConfigOffset {
  static let target = 0
  static let actual = 4
  static let hintCommand = 8
  static let poison = 12
  static let byteCount = 16
}

/// Command IDs of free page hinting (5.5.6.5); any other is a round.
enum HintCommand {
  static let stop: UInt32 = 0
  static let done: UInt32 = 1
}

/// The tags of memory statistics (5.5.6.4); 10 to 15 are Linux's.
enum StatisticTag: UInt16, CaseIterable {
  case swapIn = 0, swapOut, majorFaults, minorFaults, free, total, available, diskCaches
  case hugePageAllocations, hugePageFailures
  case oomKills, allocationStalls, asyncScan, directScan, asyncReclaim, directReclaim

  /// An entry is a 16-bit tag and a 64-bit value, packed.
  static let entryByteCount = 10
}

/// The driver's page: its numbers, and the buffers that it shows to the device.
enum BalloonPage {
  static let pageArray: UInt64 = 512
  /// Linux's number too; the buffer is 4 bytes each.
  static let mostArrayPages: UInt64 = 256
  static let statistics: UInt64 = 1536
  static let hintCommand: UInt64 = 1704
  static let hintStop: UInt64 = 1708
  static let indirectTable: UInt64 = 1712
  static let reportRanges: UInt64 = 2224
  static let mostReportRanges = 32
}

/// What the balloon driver keeps, in its page.
enum BalloonCell: RawRepresentable {
  case features, numbering
  case target, wantsResize, operation, arrayCount, deflateCursor
  /// How many pages the guest wants out of the balloon because it has no other.
  case oomWanted
  /// Set when the device asked for a reset; the driver leaves it alone from then on.
  case isBroken
  case hintReceived, hintActive, hintPhase, hintCursor
  case reportCursor, reportCount, nextReport
  case queueAddress(BalloonQueue), queueSize(BalloonQueue)

  var rawValue: UInt64 {
    switch self {
    case .features: 0
    case .numbering: 1
    case .target: 2
    case .wantsResize: 3
    case .operation: 4
    case .arrayCount: 5
    case .deflateCursor: 6
    case .oomWanted: 7
    case .isBroken: 8
    case .hintReceived: 9
    case .hintActive: 10
    case .hintPhase: 11
    case .hintCursor: 12
    case .reportCursor: 13
    case .reportCount: 14
    case .nextReport: 15
    case .queueAddress(let queue): 16 + 2 * UInt64(queue.rawValue)
    case .queueSize(let queue): 17 + 2 * UInt64(queue.rawValue)
    }
  }

  /// Cells are only ever named; none is looked up by its number.
  init?(rawValue: UInt64) { nil }
}

/// What a queue of the balloon is for (5.5.2). The numbers are those of the specification's text.
public enum BalloonQueue: Int, CaseIterable, Sendable {
  case inflate = 0, deflate, statistics, hinting, reporting

  /// The feature without which there is no such queue.
  var feature: BalloonDriver.Features {
    switch self {
    case .inflate, .deflate: []
    case .statistics: .statistics
    case .hinting: .freePageHint
    case .reporting: .reporting
    }
  }

  /// The size that the driver wants; the device may have less.
  var wantedSize: UInt16 {
    switch self {
    case .inflate, .deflate, .statistics, .reporting: 128
    case .hinting: 256
    }
  }
}
