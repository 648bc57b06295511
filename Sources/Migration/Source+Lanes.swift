import GuestRAM
import LinuxIO
import Synchronization

/// A source with several connections.
extension Source where Link: ~Copyable {
  /// Offers the further connections to the destination, and lets go of them if it takes none.
  mutating func openLanes() throws(MigrationError) {
    guard !further.isEmpty, stream.hasReturnPath else { return }
    guard further.count <= LaneCall.most else { throw .tooManyConnections(further.count, most: LaneCall.most) }
    let call = LaneCall(UInt8(further.count), token: .random(in: 0 ... .max))
    for (number, channel) in further.enumerated() {
      let lane = try Lane(channel, limit: stream.sender.limit)
      try Lane.naming { () throws(MigrationError) in
        try lane.join(LaneCall(UInt8(number), token: call.token), producer: producer)
      }
      lanes.append(lane)
    }
    further = []
    try stream.send(.lanes, call.payload)
    let answer = try LaneCall(stream.receive(.lanes).payload, of: .lanes)
    guard answer.token == call.token, [0, call.number].contains(answer.number) else { throw .malformedFrame(.lanes) }
    if answer.number == 0 { lanes = [] }
    report.connectionCount = 1 + lanes.count
  }

  /// Sends the pages of a pass over all connections at once.
  mutating func sendOverLanes(
    _ sweep: PageSweep, of memory: GuestMemory, _ hints: () -> [GuestRange], _ measured: (Double, UInt64) -> Void
  ) throws(MigrationError) {
    let shared = SharedSweep(sweep, of: memory, pacer, meter, report, leftOut: leftOut)
    shared.leaveOut(hints())
    let threads = Threads()
    for lane in lanes {
      do throws(LinuxError) {
        try threads.start { lane.send(shared) }
      } catch {
        shared.fail(.system(error))
      }
    }
    do {
      try shared.send(over: &stream.sender, through: pacer.stage, between: { shared.leaveOut(hints()) }) { (rate) in
        measured(rate, shared.leftOut.byteCount)
      }
    } catch {
      shared.fail(error)
      for lane in lanes { lane.shutDown() }
    }
    threads.join()
    (pacer, meter, report) = try shared.finish()
    leftOut = shared.leftOut
  }

  /// Tells the destination on all further connections that a pass is over.
  func endPassOnLanes() throws(MigrationError) {
    for lane in lanes { try lane.endPass(UInt32(report.passCount)) }
  }
}

extension Lane {
  /// Sends its part of a pass. What goes wrong is told to all.
  fileprivate func send(_ shared: SharedSweep) {
    stream.withLock { (stream) in
      do throws(MigrationError) {
        try shared.send(over: &stream.sender, through: stage)
      } catch {
        // The destination may have said on this connection what is wrong with it.
        let heard = stream.giveUp(error)
        shared.fail(heard == .peerGone ? .connectionLost : heard)
      }
    }
  }
}

/// Threads that end by themselves.
private struct Threads: ~Copyable {
  private let runningCount = Monitor(0)
  private let ending = WakeUp()

  func start(_ body: @escaping @Sendable () -> Void) throws(LinuxError) {
    runningCount.withLock { $0 += 1 }
    let (runningCount, ending) = (runningCount, ending)
    let leave: @Sendable () -> Void = {
      runningCount.withLock { $0 -= 1 }
      ending.wakeAll()
    }
    do {
      _ = try Thread(name: "lane") {
        body()
        leave()
      }
    } catch {
      leave()
      throw error
    }
  }

  func join() {
    _ = runningCount.wait(on: ending) { $0 == 0 ? true : nil }
  }
}
