import GuestRAM

/// Free page hinting (5.5.6.5): a round names free pages, which stay unused until the device is done or memory is wanted.
extension BalloonDriver {
  enum HintPhase: UInt64 {
    /// No round, and no page held.
    case idle = 0
    /// A round is to begin with its command ID.
    case starting
    case sending
    /// The round is to end with the stop ID.
    case stopping
    /// The round is over; the pages are held until the device is done.
    case holding
    /// Pages are made free again, and then the next round begins if there is one.
    case releasing
  }

  /// Runs shorter than this are not worth a descriptor.
  private static var shortestRun: UInt32 { 16 }
  /// 4 MiB, the largest block that Linux hints.
  private static var longestRun: UInt32 { 1024 }
  /// How many pages a step looks at, at most.
  private static var window: UInt32 { 65_536 }

  func hintCommandChanged(_ command: UInt32) throws(GuestError) {
    guard UInt64(command) != (try cells.get(.hintReceived)) else { return }
    try cells.set(.hintReceived, UInt64(command))
    let phase = try hintPhase()
    if command != HintCommand.stop {
      try setHintPhase(.releasing)
    } else if phase == .starting {
      try setHintPhase(.holding)
    } else if phase == .sending {
      try setHintPhase(.stopping)
    }
  }

  func hint() throws(GuestError) {
    switch try hintPhase() {
    case .idle, .holding: break
    case .releasing: try releaseHinted()
    case .starting: try startHinting()
    case .sending: try sendHints()
    case .stopping:
      if try sendCommand(HintCommand.stop, at: BalloonPage.hintStop) { try setHintPhase(.holding) }
    }
  }

  private func releaseHinted() throws(GuestError) {
    _ = try supply.takeBack(.hinted, most: 4096)
    guard try allocator.count(of: .hinted) == 0 else { return }
    let isRound = try cells.get(.hintReceived) > UInt64(HintCommand.done)
    try setHintPhase(isRound ? .starting : .idle)
  }

  private func startHinting() throws(GuestError) {
    // The buffers of an earlier round must be back before their bytes may change.
    guard try queues[BalloonQueue.hinting.rawValue]?.outstandingCount() == 0 else { return }
    let command = UInt32(truncatingIfNeeded: try cells.get(.hintReceived))
    guard try sendCommand(command, at: BalloonPage.hintCommand) else { return }
    try cells.set(.hintActive, UInt64(command))
    try cells.set(.hintCursor, 0)
    try setHintPhase(.sending)
  }

  private func sendCommand(_ command: UInt32, at offset: UInt64) throws(GuestError) -> Bool {
    guard let queue = queues[BalloonQueue.hinting.rawValue] else { return false }
    let place = cells.base + offset
    try memory.store(command, at: place)
    let buffer = GuestBuffer(address: place, byteCount: 4)
    guard try queue.add(readable: [buffer], writable: [], token: 0) else { return false }
    try submit(.hinting)
    return true
  }

  private func sendHints() throws(GuestError) {
    guard let queue = queues[BalloonQueue.hinting.rawValue] else { return }
    var cursor = UInt32(truncatingIfNeeded: try cells.get(.hintCursor))
    let end = min(allocator.pageCount, cursor &+ Self.window)
    // One descriptor is kept for the stop ID, and some memory for the guest.
    while try queue.freeCount() > 1 {
      let spare = try allocator.freeCount()
      let longest = UInt32(min(UInt64(Self.longestRun), spare > supply.reserve ? spare - supply.reserve : 0))
      guard longest >= Self.shortestRun,
        let run = try allocator.nextRun(from: cursor, before: end, longest: longest, where: \.isFree)
      else {
        cursor = longest >= Self.shortestRun ? end : allocator.pageCount
        break
      }
      cursor = run.upperBound
      guard run.count >= Int(Self.shortestRun) else { continue }
      for page in run { try allocator.change(page, to: .hinted) }
      _ = try queue.add(readable: [], writable: [run.buffer], token: 0)
    }
    try cells.set(.hintCursor, UInt64(cursor))
    try submit(.hinting)
    if cursor >= allocator.pageCount { try setHintPhase(.stopping) }
  }

  private func hintPhase() throws(GuestError) -> HintPhase {
    let phase = try cells.get(.hintPhase)
    guard let known = HintPhase(rawValue: phase) else { throw .damaged(field: "hint phase", value: phase) }
    return known
  }

  private func setHintPhase(_ phase: HintPhase) throws(GuestError) {
    try cells.set(.hintPhase, phase.rawValue)
  }
}

/// Free page reporting (5.5.6.7): pages are set aside until the device has seen the report, and are then free as before.
extension BalloonDriver {
  /// Runs shorter than this are not worth a report.
  private static var shortestReport: UInt32 { 64 }
  /// Steps between two rounds over all of memory.
  private static var reportInterval: UInt64 { 64 }

  func report(at tick: UInt64) throws(GuestError) {
    guard let queue = queues[BalloonQueue.reporting.rawValue], try tick >= cells.get(.nextReport) else { return }
    guard try cells.get(.reportCount) == 0 else { return }
    var cursor = UInt32(truncatingIfNeeded: try cells.get(.reportCursor))
    let runs = try collectReport(&cursor, most: queue.options.indirectDescriptors ? UInt16.max : queue.size)
    if cursor >= allocator.pageCount {
      cursor = 0
      try cells.set(.nextReport, tick &+ Self.reportInterval)
    }
    try cells.set(.reportCursor, UInt64(cursor))
    guard !runs.isEmpty else { return }
    for (index, run) in runs.enumerated() { try hold(run, index) }
    try cells.set(.reportCount, UInt64(runs.count))
    let table = cells.base + BalloonPage.indirectTable
    if try queue.add(readable: [], writable: runs.map(\.buffer), token: 0, indirectTable: table) {
      try submit(.reporting)
    }
  }

  private func collectReport(_ cursor: inout UInt32, most: UInt16) throws(GuestError) -> [Range<UInt32>] {
    var runs: [Range<UInt32>] = []
    let end = min(allocator.pageCount, cursor &+ Self.window)
    while runs.count < min(BalloonPage.mostReportRanges, Int(most)) {
      let next = try allocator.nextRun(from: cursor, before: end, longest: Self.longestRun) { $0 == .free }
      guard let run = next else {
        cursor = end
        break
      }
      cursor = run.upperBound
      if run.count >= Int(Self.shortestReport) { runs.append(run) }
    }
    return runs
  }

  private func hold(_ run: Range<UInt32>, _ index: Int) throws(GuestError) {
    for page in run { try allocator.change(page, to: .reporting) }
    let place = cells.base + BalloonPage.reportRanges + 16 * UInt64(index)
    try memory.store(UInt64(run.lowerBound), at: place)
    try memory.store(UInt64(run.count), at: place + 8)
  }

  /// The device has seen the report: the pages may be used again, without telling it.
  func finishReport() throws(GuestError) {
    let count = min(try cells.get(.reportCount), UInt64(BalloonPage.mostReportRanges))
    for index in 0..<count {
      let place = cells.base + BalloonPage.reportRanges + 16 * index
      let first = UInt32(truncatingIfNeeded: try memory.load(UInt64.self, at: place))
      let length = min(UInt32(truncatingIfNeeded: try memory.load(UInt64.self, at: place + 8)), Self.longestRun)
      for offset in 0..<length { try allocator.change(first &+ offset, to: .reported) }
    }
    try cells.set(.reportCount, 0)
  }
}

extension Range<UInt32> {
  /// The memory of a run of pages.
  fileprivate var buffer: GuestBuffer {
    GuestBuffer(address: GuestAddress(page: lowerBound), byteCount: count * GuestPage.byteCount)
  }
}
