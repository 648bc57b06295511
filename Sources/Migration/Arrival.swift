public import GuestRAM
import LinuxIO

/// A guest that is here in full but still the source's.
///
/// Restore the devices from `state` first, then `confirm`; if they cannot be restored, `refuse`. Letting go of the value
/// without either ends the connection and leaves the guest to the source too.
public struct Arrival<Link: Channel & ~Copyable>: ~Copyable {
  /// The guest's memory; nothing was stored where the guest has nothing or zeros.
  public let memory: GuestMemory
  /// The saved state as the source gave it.
  public let state: [UInt8]
  /// What the source told about the guest before it sent it.
  public let description: GuestDescription

  private var stream: FrameStream<Link>
  private var report: MigrationReport
  private let start: UInt64

  init(
    memory: GuestMemory, state: [UInt8], description: GuestDescription, stream: consuming FrameStream<Link>,
    report: MigrationReport, start: UInt64
  ) {
    self.memory = memory
    self.state = state
    self.description = description
    self.stream = stream
    self.report = report
    self.start = start
  }

  /// Tells the source that the guest could run here, and waits until it gives the guest away.
  ///
  /// - Returns: from then on the guest is here, and runs here alone.
  /// - Throws: the guest must not run here.
  public consuming func confirm() throws(MigrationError) -> MigrationReport {
    do {
      try stream.send(.ready)
      _ = try stream.receive(.commit)
    } catch {
      throw stream.giveUp(error)
    }
    do {
      try stream.send(.committed)
    } catch {
      report.acknowledgementError = error
    }
    report.close(since: start, wireByteCount: stream.byteCount, memoryByteCount: memory.byteCount)
    return report
  }

  /// Leaves the guest to the source.
  ///
  /// - Parameter reason: what the source reports, such as which device could not be restored.
  public consuming func refuse(_ reason: String) {
    _ = stream.giveUp(.unusable(reason))
  }
}
