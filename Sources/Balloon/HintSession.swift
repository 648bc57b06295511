public import DeviceState
public import GuestRAM

/// How far a round of free page hinting has come (5.5.6.5).
public enum HintPhase: UInt8, StateValue {
  /// No round: the command is STOP or DONE.
  case idle = 0
  /// The driver was asked for hints and has not begun.
  case requested = 1
  /// The driver is hinting.
  case active = 2
  /// The driver has no more hints for this round.
  case ended = 3
}

/// Free ranges that a driver hinted at in one round.
public struct FreePageHints: Equatable, Sendable {
  /// The command ID of the round.
  public let round: UInt32
  /// Whole 4 KiB pages of guest memory, in the order of the hints; they may overlap.
  public let ranges: [GuestRange]
  /// How many bytes of hints are missing for want of room. To miss a hint is to copy more.
  public let droppedByteCount: UInt64
}

/// The rounds of free page hinting and what the current one has brought.
struct HintSession: Equatable {
  /// `VIRTIO_BALLOON_CMD_ID_STOP`
  static let stop: UInt32 = 0
  /// `VIRTIO_BALLOON_CMD_ID_DONE`
  static let done: UInt32 = 1
  /// IDs count from here, far from the reserved ones.
  static let firstRound: UInt32 = 0x8000_0000
  /// The most ranges that are kept until somebody takes them.
  static let mostRanges = 65_536

  /// What `free_page_hint_cmd_id` says.
  private(set) var command = stop
  private(set) var phase = HintPhase.idle
  /// The last round's ID; the next one is another, so that a late answer to this one is known for what it is.
  private(set) var lastRound = firstRound - 1
  private var ranges: [GuestRange] = []
  private var droppedByteCount: UInt64 = 0

  init() {}

  init(command: UInt32, phase: HintPhase, lastRound: UInt32) {
    self.command = command
    self.phase = phase
    self.lastRound = lastRound
  }

  /// Begins a round; whatever came before it counts no more.
  mutating func start() -> UInt32 {
    lastRound = max(lastRound &+ 1, Self.firstRound)
    end(with: lastRound, .requested)
    return lastRound
  }

  /// Ends the round, if there is one, with STOP or DONE. Hints that nobody took are dropped: a page may be in use again.
  mutating func end(with command: UInt32, _ phase: HintPhase = .idle) {
    self.command = command
    self.phase = phase
    ranges.removeAll(keepingCapacity: true)
    droppedByteCount = 0
  }

  /// The driver sent a command ID: its current one begins the round, any other after that ends it.
  mutating func receive(_ id: UInt32) {
    switch phase {
    case .requested where id == command: phase = .active
    case .active: phase = .ended
    case .idle, .requested, .ended: break
    }
  }

  /// Notes a free range if the driver is hinting for the current round.
  mutating func note(_ range: GuestRange) {
    guard phase == .active else { return }
    if let last = ranges.last, last.end == range.start {
      ranges[ranges.count - 1] = GuestRange(start: last.start, byteCount: last.byteCount + range.byteCount)
    } else if ranges.count < Self.mostRanges {
      ranges.append(range)
    } else {
      droppedByteCount &+= range.byteCount
    }
  }

  /// The hints of the current round that have not been taken yet.
  mutating func take() -> FreePageHints {
    defer {
      ranges.removeAll()
      droppedByteCount = 0
    }
    return FreePageHints(round: command, ranges: ranges, droppedByteCount: droppedByteCount)
  }
}
