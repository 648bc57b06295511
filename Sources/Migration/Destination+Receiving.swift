import GuestRAM
import LinuxIO

/// What a destination receives, part by part.
extension Destination where Link: ~Copyable {
  // MARK: - Memory and state

  /// Receives all up to the point where only the source's decision is missing, and returns the state.
  mutating func receiveGuest(
    _ memory: GuestMemory, _ accepting: ((Duration) throws(MigrationError) -> any Channel)?, mayLackPages: Bool
  ) throws(MigrationError) -> (state: [UInt8], OutstandingPages) {
    let store = PageStore(
      memory, threadCount: limits.populatingThreadCount, mayBeHuge: limits.usesHugePages && !mayLackPages)
    self.store = store
    defer { store.endFirstPass() }
    let stage = try store.makeStage()
    var planned = PlannedPages(memory.regions.map(\.range))
    var outstanding = OutstandingPages(memory.regions.map(\.range))
    var state: [UInt8] = []
    while true {
      let frame = try receiveFrame()
      switch frame.kind {
      case .lanes where planned.isUntouched && lanes == nil: try takeLanes(frame, accepting, memory, store)
      case .plan:
        let ranges = try take(frame, &planned, memory)
        // With several connections every one of their threads gets memory at the same time.
        try store.expect(ranges, isAhead: lanes == nil)
      case .pass: try beginPass(frame, &planned, memory)
      case .pages where lanes == nil:
        try store.receive(alone: frame, planned.take(frame), from: &stream.receiver, through: stage)
      case .pages: try store.receive(frame, planned.take(frame), from: &stream.receiver, through: stage)
      case .encoded: try receiveEncoded(frame, &planned, memory)
      case .outstanding where mayLackPages:
        try awaitPages()
        store.stop()
        try take(frame, &outstanding, memory)
      case .state: try append(frame, to: &state)
      case .complete:
        guard planned.isEmpty else { throw .incomplete }
        report.outstandingPageCount = outstanding.count
        try finish(Completion(frame.payload), state, memory)
        return (state, outstanding)
      default: throw .unexpectedFrame(frame.kind)
      }
    }
  }

  /// The next frame, for which the first connection may have to wait as long as others bring something.
  private mutating func receiveFrame() throws(MigrationError) -> Frame {
    while let lanes, try !stream.receiver.waitForFrame(within: limits.time) {
      guard lanes.haveProgressed() else { throw .peerStalled }
    }
    return try stream.receive()
  }

  /// - Returns: what may need memory before its data comes.
  private mutating func take(
    _ frame: Frame, _ planned: inout PlannedPages, _ memory: GuestMemory
  ) throws(MigrationError) -> [GuestRange] {
    let plan = try PageRun.runs(frame.payload)
    let ranges = try planned.add(plan)
    try lanes?.claim(plan)
    report.count(plan)
    if report.passCount == 0 { return ranges }
    try memory.clearZeros(of: plan)
    return []
  }

  /// Pages that follow the guest: what has come of them is not what they hold.
  private func take(
    _ frame: Frame, _ outstanding: inout OutstandingPages, _ memory: GuestMemory
  ) throws(MigrationError) {
    let runs = try PageRun.runs(frame.payload)
    for run in runs {
      guard !run.isZero else { throw .malformedFrame(.outstanding) }
      try outstanding.insert(run.range)
    }
    try memory.takeOut(runs.map(\.range))
  }

  func checkPostcopy(into memory: GuestMemory) throws(MigrationError) {
    guard MissingPages.isAvailable else {
      throw .postcopyUnavailable("the destination may not have a userfaultfd that system calls wait for")
    }
    guard memory.regions.allSatisfy({ $0.backingPageByteCount == Int(GuestPage.byteCount) }) else {
      throw .postcopyUnavailable("the destination's memory is not in pages of 4 KiB")
    }
  }

  private mutating func beginPass(
    _ frame: Frame, _ planned: inout PlannedPages, _ memory: GuestMemory
  ) throws(MigrationError) {
    try awaitPages()
    store?.endFirstPass()
    let number = try Pass.number(frame.payload)
    guard number == report.passCount + 1, number <= Pass.most else { throw .unexpectedFrame(.pass) }
    if report.passCount == 0 { report.closeFirstPass(memoryByteCount: memory.byteCount) }
    report.passCount += 1
    try planned.beginPass(memory.regions.map(\.range))
    lanes?.beginPass()
  }

  private func receiveEncoded(
    _ frame: Frame, _ planned: inout PlannedPages, _ memory: GuestMemory
  ) throws(MigrationError) {
    var pages = try EncodedPages(frame.payload)
    for run in try planned.take(pages.start, byteCount: pages.byteCount).runs {
      for page in 0..<UInt64(run.pageCount) {
        let address = GuestAddress(run.start.rawValue + page * GuestPage.byteCount)
        try pages.storeNext(at: address, memory)
      }
    }
    guard pages.isAtEnd else { throw .malformedFrame(.encoded) }
  }

  // MARK: - Further connections

  private mutating func takeLanes(
    _ frame: Frame, _ accepting: ((Duration) throws(MigrationError) -> any Channel)?, _ memory: GuestMemory,
    _ store: PageStore
  ) throws(MigrationError) {
    let call = try LaneCall(frame.payload, of: .lanes)
    guard stream.hasReturnPath, call.number > 0 else { throw .malformedFrame(.lanes) }
    guard let accepting else { return try stream.send(.lanes, LaneCall(0, token: call.token).payload) }
    let joined = try call.accept(within: limits.time, accepting)
    lanes = try .start(joined, memory, store)
    report.connectionCount = 1 + joined.count
    try stream.send(.lanes, call.payload)
  }

  /// Waits until all that has come is in its place, and the further connections have brought their part of the pass,
  /// which is counted.
  private mutating func awaitPages() throws(MigrationError) {
    try store?.settle()
    guard let (data, zero) = try lanes?.awaitPass(within: limits.time) else { return }
    report.dataPageCount += data - laneCounts.data
    report.zeroPageCount += zero - laneCounts.zero
    laneCounts = (data, zero)
  }

  func append(_ frame: Frame, to state: inout [UInt8]) throws(MigrationError) {
    guard !frame.payload.isEmpty else { throw .malformedFrame(.state) }
    guard state.count + frame.payload.count <= limits.mostState else {
      throw .tooMuchState(byteCount: state.count + frame.payload.count, most: limits.mostState)
    }
    state += frame.payload
  }

  private mutating func finish(
    _ completion: Completion, _ state: [UInt8], _ memory: GuestMemory
  ) throws(MigrationError) {
    try awaitPages()
    laneByteCount = lanes?.finish() ?? 0
    report.stateByteCount = UInt64(state.count)
    if report.passCount == 0 { report.closeFirstPass(memoryByteCount: memory.byteCount) }
    let received = Completion(
      dataPageCount: report.dataPageCount, zeroPageCount: report.zeroPageCount,
      outstandingPageCount: report.outstandingPageCount, stateByteCount: report.stateByteCount,
      stateDigest: GuestMemory.digest(of: state), isToVerify: completion.isToVerify)
    guard completion == received,
      report.passCount > 0 || report.namedPageCount <= memory.byteCount / GuestPage.byteCount
    else { throw .incomplete }
    guard completion.isToVerify else { return }
    guard stream.hasReturnPath, report.outstandingPageCount == 0 else { throw .malformedFrame(.complete) }
    try sendDigests(of: memory)
  }

  /// Digests what is in memory now, not what came: it is the memory that the guest will run with.
  private mutating func sendDigests(of memory: GuestMemory) throws(MigrationError) {
    for range in try memory.residentPages() {
      let step = UInt64(PageDigests.mostPages) * GuestPage.byteCount
      for offset in stride(from: 0, to: range.byteCount, by: Int(step)) {
        let start = GuestAddress(range.start.rawValue + offset)
        let part = GuestRange(start: start, byteCount: min(step, range.byteCount - offset))
        var digests: [UInt64] = []
        digests.reserveCapacity(PageDigests.mostPages)
        try inGuestMemory { () throws(GuestMemoryError) in try memory.appendPageDigests(of: part, to: &digests) }
        try stream.send(.digests, PageDigests(start: start, digests: digests).payload)
        report.comparedPageCount += UInt64(digests.count)
      }
    }
    try stream.send(.digestsEnd)
    report.isVerified = true
  }
}

extension GuestMemory {
  /// Leaves nothing where whole pages were, so that whoever touches one misses it.
  func takeOut(_ ranges: [GuestRange]) throws(MigrationError) {
    let left = try inGuestMemory { () throws(GuestMemoryError) in
      for range in ranges { try clear(range) }
      return try residentRanges(in: ranges)
    }
    // Of a huge page in use the kernel only clears parts. The guest would never wait for what follows.
    if let page = left.first {
      throw .postcopyUnavailable("pages are still there that were taken out, as of huge pages that are in use: \(page)")
    }
  }
}
