import GuestRAM
import LinuxIO
import Synchronization

/// The further connections of a destination. Each has a thread that stores what comes, and waits at the end of each pass
/// until all others are there as well: what comes later must not be overtaken by what came before.
final class ReceivingLanes: Sendable {
  private struct State {
    var pass: UInt32 = 0
    /// How many connections have brought all of the pass.
    var arrivedCount = 0
    var runningCount = 0
    var claims: PageClaims
    var report = MigrationReport()
    /// The pages that had been named when somebody last asked.
    var seenPageCount: UInt64 = 0
    var failure: MigrationError?
    /// Whoever waits or has received something takes no more.
    var isOver = false
  }

  private let lanes: [Lane]
  private let memory: GuestMemory
  private let store: PageStore
  private let state: Monitor<State>
  private let forOwner = WakeUp()
  private let forLanes = WakeUp()

  private init(_ lanes: [Lane], _ memory: GuestMemory, _ store: PageStore) {
    self.lanes = lanes
    self.memory = memory
    self.store = store
    state = Monitor(State(claims: PageClaims(memory.regions.map(\.range))))
  }

  /// Starts to receive. `end` has to be called.
  static func start(_ lanes: [Lane], _ memory: GuestMemory, _ store: PageStore) throws(MigrationError) -> ReceivingLanes
  {
    let receiving = ReceivingLanes(lanes, memory, store)
    do throws(LinuxError) {
      for lane in lanes { try receiving.startThread(lane) }
      return receiving
    } catch {
      receiving.end()
      throw .system(error)
    }
  }

  private func startThread(_ lane: Lane) throws(LinuxError) {
    state.withLock { $0.runningCount += 1 }
    do {
      _ = try Thread(name: "lane") { [self] in
        run(lane)
        leave()
      }
    } catch {
      leave()
      throw error
    }
  }

  private func leave() {
    state.withLock { $0.runningCount -= 1 }
    forOwner.wakeAll()
  }

  // MARK: - The owner's side

  /// What has gone wrong on one of them.
  var failure: MigrationError? { state.withLock { $0.failure } }

  /// Notes what the first connection names.
  func claim(_ plan: [PageRun]) throws(MigrationError) {
    try state.withLock { (state) throws(MigrationError) in try state.claims.claim(plan) }
  }

  /// Waits until all have brought their part of the pass, and returns the pages that were named so far.
  func awaitPass(within limit: Duration) throws(MigrationError) -> (data: UInt64, zero: UInt64) {
    while true {
      let waited = try state.wait(on: forOwner, until: MonotonicClock.moment(after: limit)) {
        (state) throws(MigrationError) -> (UInt64, UInt64)? in
        if let failure = state.failure { throw failure }
        return state.arrivedCount == lanes.count ? (state.report.dataPageCount, state.report.zeroPageCount) : nil
      }
      if let waited { return waited }
      guard haveProgressed() else { throw .peerStalled }
    }
  }

  /// Whether any of them has brought something since this was asked last.
  func haveProgressed() -> Bool {
    state.withLock { (state) in
      let count = state.report.dataPageCount + state.report.zeroPageCount
      defer { state.seenPageCount = count }
      return count > state.seenPageCount
    }
  }

  /// Lets them go on with the next pass. All wait for it.
  func beginPass() {
    state.withLock { (state) in
      state.pass += 1
      state.arrivedCount = 0
      state.claims.removeAll()
    }
    forLanes.wakeAll()
  }

  /// Takes no more.
  func end() {
    state.withLock { $0.isOver = true }
    forLanes.wakeAll()
    for lane in lanes { lane.shutDown() }
  }

  /// After the last pass: ends, and returns once nobody touches memory any more, with the bytes that have come.
  func finish() -> UInt64 {
    end()
    _ = state.wait(on: forOwner) { $0.runningCount == 0 ? true : nil }
    return lanes.reduce(0) { $0 + $1.byteCount }
  }

  // MARK: - The threads' side

  private func run(_ lane: Lane) {
    lane.stream.withLock { (stream) in
      do throws(MigrationError) {
        try Lane.naming { () throws(MigrationError) in try receiveAll(from: &stream.receiver, through: lane.stage) }
      } catch {
        guard noteFailure(error) else { return }
        _ = stream.giveUp(error)
        // A source that waits for this connection looks for what was said.
        lane.shutDown()
      }
    }
  }

  /// - Returns: false for what happens when all is over: the end of the connection, at most.
  private func noteFailure(_ error: MigrationError) -> Bool {
    defer { forOwner.wakeAll() }
    return state.withLock { (state) in
      if !state.isOver { state.failure = state.failure ?? error }
      return !state.isOver
    }
  }

  private func receiveAll(
    from receiver: inout FrameReceiver<AnyChannel>, through stage: PageStage
  ) throws(MigrationError) {
    var planned = PlannedPages(memory.regions.map(\.range))
    while true {
      // One that has nothing to bring is silent; whether all are is for the owner to tell.
      while try !receiver.waitForFrame(within: .milliseconds(200)) {
        if state.withLock({ $0.isOver }) { return }
      }
      let frame = try receiver.receive()
      if state.withLock({ $0.isOver }) { return }
      switch frame.kind {
      case .plan: try take(frame, &planned)
      case .pages: try store.receive(frame, planned.take(frame), from: &receiver, through: stage)
      case .barrier:
        guard planned.isEmpty else { throw .incomplete }
        guard try awaitOthers(Pass.number(frame.payload)) else { return }
        try planned.beginPass(memory.regions.map(\.range))
      default: throw .unexpectedFrame(frame.kind)
      }
    }
  }

  private func take(_ frame: Frame, _ planned: inout PlannedPages) throws(MigrationError) {
    let plan = try PageRun.runs(frame.payload)
    let ranges = try planned.add(plan)
    let isFirstPass = try state.withLock { (state) throws(MigrationError) in
      try state.claims.claim(plan)
      state.report.count(plan)
      return state.pass == 0
    }
    if isFirstPass { try store.expect(ranges, isAhead: false) } else { try memory.clearZeros(of: plan) }
  }

  /// - Returns: whether there is another pass.
  private func awaitOthers(_ pass: UInt32) throws(MigrationError) -> Bool {
    try state.withLock { (state) throws(MigrationError) in
      guard pass == state.pass else { throw .unexpectedFrame(.barrier) }
      state.arrivedCount += 1
    }
    forOwner.wakeAll()
    return state.wait(on: forLanes) { (state) in
      if state.isOver { return false }
      return state.pass > pass ? true : nil
    } ?? false
  }
}

extension GuestMemory {
  /// What came in an earlier pass has its memory, and may have to lose it; of a huge page only a part may be zero.
  func clearZeros(of plan: [PageRun]) throws(MigrationError) {
    for run in plan where run.isZero {
      try inGuestMemory { () throws(GuestMemoryError) in try clear(run.range) }
    }
  }
}

extension LaneCall {
  /// How long somebody who has connected may take to say who it is, and how many may be somebody else.
  private static var mostTimeToJoin: Duration { .seconds(1) }
  private static var mostStrangers: Int { 64 }

  /// Takes connections until all that are announced are there, and lets go of all others.
  func accept(
    within limit: Duration, _ accepting: (Duration) throws(MigrationError) -> any Channel
  ) throws(MigrationError) -> [Lane] {
    let end = MonotonicClock.moment(after: limit)
    var lanes: [UInt8: Lane] = [:]
    var strangerCount = 0
    while lanes.count < Int(number) {
      guard strangerCount < Self.mostStrangers else { throw .connectionLost }
      let channel = try accepting(MonotonicClock.timeLeft(until: end))
      let lane = try Lane(channel, limit: min(limit, Self.mostTimeToJoin))
      if let own = lane.number(in: token), own < number, lanes[own] == nil {
        lane.setLimit(limit)
        lanes[own] = lane
      } else {
        strangerCount += 1
      }
    }
    return Array(lanes.values)
  }
}
