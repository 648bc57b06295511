public import GuestRAM
public import LinuxIO

/// Giving a guest to another process of the same machine: its memory stays where it is, and changes hands.
extension Source where Link: ~Copyable {
  /// Hands a guest that runs over to another process of this machine, in a time that does not depend on its memory's size.
  ///
  /// The descriptors of its memory files go over the connection, which must be a UNIX socket; no page is read. Only once
  /// the destination has mapped them is the guest stopped, saved, and given away. Both sides have the same memory from
  /// then on: after the return nobody may write it here any more, the guest's devices included.
  /// - Parameters:
  ///   - notes: what the destination has to agree to first.
  ///   - cancellation: calls it off until the guest is given away: at any moment if it is the connection's too.
  /// - Throws: `cannotHandOver` before the guest is stopped, where its memory is not in memory files that can be sealed
  ///   against being made shorter, or the connection passes no descriptors. After any error the guest runs on here unless
  ///   the error's `sourceMayRun` is false.
  public consuming func handOver<Guest: LiveGuest & ~Copyable>(
    _ guest: inout Guest, notes: [GuestDescription.Note] = [], unless cancellation: Cancellation? = nil
  ) throws(MigrationError) -> MigrationReport {
    let start = MonotonicClock.now
    var pausedAt: UInt64?
    do throws(MigrationError) {
      try offerFiles(of: guest.memory, notes)
      if cancellation?.isCancelled == true { throw .cancelled }
      pausedAt = MonotonicClock.now
      try send(guest.pause(), verifies: false)
      try awaitReady()
      if cancellation?.isCancelled == true { throw .cancelled }
    } catch {
      if pausedAt != nil { guest.resume() }
      throw stream.giveUp(error)
    }
    do {
      try handOver()
    } catch {
      if error.sourceMayRun { guest.resume() }
      throw error
    }
    report.close(since: start, wireByteCount: stream.byteCount)
    report.downtimeSeconds = pausedAt.map(MigrationReport.seconds(since:))
    return report
  }

  /// Hands over a guest that does not run; otherwise like that of one that does.
  /// - Parameters:
  ///   - state: the saved state of devices and processors, opaque here.
  ///   - pausedAt: when the guest was paused, by `MonotonicClock`; now, when nil.
  public consuming func handOver(
    _ memory: GuestMemory, state: [UInt8], notes: [GuestDescription.Note] = [], pausedAt: UInt64? = nil
  ) throws(MigrationError) -> MigrationReport {
    let start = MonotonicClock.now
    do {
      try offerFiles(of: memory, notes)
      try send(state, verifies: false)
      try awaitReady()
    } catch {
      throw stream.giveUp(error)
    }
    try handOver()
    report.close(since: start, wireByteCount: stream.byteCount)
    report.downtimeSeconds = MigrationReport.seconds(since: pausedAt ?? start)
    return report
  }

  /// Passes the memory's files, and returns once the destination has them in its map.
  private mutating func offerFiles(
    of memory: GuestMemory, _ notes: [GuestDescription.Note]
  ) throws(MigrationError) {
    guard stream.passesDescriptors else {
      throw .cannotHandOver(
        "the connection passes no descriptors; \"unix:PATH\" does, and \"fd:NUMBER\" of a UNIX socket")
    }
    let files = try MemoryFiles(of: memory)
    try introduce(GuestDescription(regions: memory.regions.map(\.range), notes: notes), as: .handOver)
    try stream.sender.send(.files, files.payload, descriptors: files.descriptors)
    _ = try stream.receive(.accept)
    report.handedOverByteCount = memory.byteCount
  }
}
