import GuestRAM
import LinuxIO
import Synchronization

/// The pages of a pass that several connections send, each taking the next stretch when it has sent one.
final class SharedSweep: Sendable {
  private struct State {
    var sweep: PageSweep
    var pacer: Pacer
    var meter: RateMeter
    var report: MigrationReport
    var leftOut: [GuestRange]
    var failure: MigrationError?
  }

  private let guest: GuestMemory
  /// Looks at pages without taking any.
  private let viewer: PageSweep
  private let isLive: Bool
  private let state: Mutex<State>

  init(
    _ sweep: PageSweep, of guest: GuestMemory, _ pacer: Pacer, _ meter: RateMeter, _ report: MigrationReport,
    leftOut: [GuestRange]
  ) {
    self.guest = guest
    viewer = sweep
    isLive = pacer.stage != nil
    state = Mutex(State(sweep: sweep, pacer: pacer, meter: meter, report: report, leftOut: leftOut))
  }

  /// The pages that have been left out so far.
  var leftOut: [GuestRange] { state.withLock { $0.leftOut } }

  /// Leaves pages out that no connection has come to yet.
  func leaveOut(_ ranges: [GuestRange]) {
    state.withLock { $0.leftOut = $0.leftOut.union($0.sweep.leaveOut(ranges)) }
  }

  /// What has become of it, once nobody sends any more. Throws what has gone wrong on any connection.
  func finish() throws(MigrationError) -> (Pacer, RateMeter, MigrationReport) {
    try state.withLock { (state) throws(MigrationError) in
      if let failure = state.failure { throw failure }
      return (state.pacer, state.meter, state.report)
    }
  }

  /// Has all connections stop after what they are sending now. What the peer says about it tells more than its going.
  func fail(_ error: MigrationError) {
    state.withLock { (state) in
      if case .peerFailed = error { state.failure = error } else { state.failure = state.failure ?? error }
    }
  }

  /// Sends stretch after stretch over one connection until none is left, or something has gone wrong on any.
  ///
  /// - Parameters:
  ///   - stage: where pages of a guest that runs are copied.
  ///   - between: done before each stretch.
  ///   - measured: told the rate of all connections together, once, in bytes a second.
  func send<Link: Channel & ~Copyable>(
    over sender: inout FrameSender<Link>, through stage: PageStage?, between: () -> Void = {},
    measured: (Double) -> Void = { _ in }
  ) throws(MigrationError) {
    while true {
      between()
      guard let runs = try take() else { return }
      if !runs.isEmpty { try sender.send(.plan, PageRun.payload(runs)) }
      for frame in PageFrame.frames(of: runs) {
        try wait(toSend: frame.byteCount)
        try sender.sendPages(frame, of: guest, through: isLive ? stage : nil)
        state.withLock { $0.meter.add(frame.byteCount) }
      }
      if let rate = state.withLock({ $0.meter.newRate() }) { measured(rate) }
    }
  }

  /// The runs of the next stretch, which may be none; nil at the end.
  private func take() throws(MigrationError) -> [PageRun]? {
    let pieces = try state.withLock { (state) throws(MigrationError) in
      try state.pacer.check()
      return state.failure == nil ? state.sweep.nextPieces() : []
    }
    guard !pieces.isEmpty else { return nil }
    let runs = try viewer.runs(of: pieces)
    state.withLock { $0.report.count(runs) }
    return runs
  }

  /// Waits until the connections together may send so many bytes more.
  private func wait(toSend byteCount: Int) throws(MigrationError) {
    let (pacer, delay) = try state.withLock { (state) throws(MigrationError) in
      (state.pacer, try state.pacer.delay(toSend: byteCount))
    }
    if delay > 0 { try pacer.pause(nanoseconds: delay) }
  }
}

extension PageFrame {
  /// The data of runs, in as few frames as can be.
  static func frames(of runs: [PageRun]) -> [PageFrame] {
    var frames: [PageFrame] = []
    for run in runs where !run.isZero {
      if let last = frames.indices.last, frames[last].append(run) { continue }
      var frame = PageFrame()
      _ = frame.append(run)
      frames.append(frame)
    }
    return frames
  }
}
