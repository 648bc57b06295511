import DeviceState
public import LinuxIO
import VirtioCore

/// Where a recording goes, and who is told when it cannot go on.
public struct RecordingSink: Sendable {
  let write: @Sendable ([UInt8]) throws(LinuxError) -> Void
  let report: @Sendable (RecordingError) -> Void

  /// - Parameters:
  ///   - write: takes the next bytes of the recording.
  ///   - report: told once why no more is recorded. The device goes on.
  public init(
    write: @escaping @Sendable ([UInt8]) throws(LinuxError) -> Void,
    report: @escaping @Sendable (RecordingError) -> Void
  ) {
    self.write = write
    self.report = report
  }
}

/// Writes down what a device is called for, what its outside answers, and what comes of it.
///
/// Each call is on its way to the sink before the device gets it, so that what makes a device crash is recorded too.
public final class Recorder: Sendable {
  private struct Desk {
    var checksum: UInt32 = 0
    var byteCount = 0
    var callCount: UInt64 = 0
    /// A call that is not worth recording unless something comes of it.
    var kept: TapeCall?
    /// What was asked of the outside in this call.
    var exchanges: [Exchange] = []
    var isCalling = false
    var hasEnded = false
  }

  private let desk = Monitor(Desk())
  private let sink: RecordingSink

  /// - Parameter properties: what is needed to make the same device again.
  init(of device: DeviceID, _ properties: some TapeRecord, to sink: RecordingSink) {
    self.sink = sink
    update { (desk) throws(RecordingError) in
      desk.checksum = CRC32C.checksum(TapeFrames.preamble)
      try send(TapeFrames.preamble, &desk)
      let setup = TapeSetup(device: device.rawValue, properties: try TapeWriter.bytes(of: properties))
      try append(.setup, setup, &desk)
    }
  }

  /// Notes what the device asked of its outside and was told. What somebody wants to know of it between calls, which
  /// may be the time, changes nothing and is left out.
  func note(_ act: Act, _ answer: Answer) {
    update { (desk) throws(RecordingError) in
      guard desk.isCalling else { return }
      try releaseKept(&desk)
      desk.exchanges.append(Exchange(act: act, answer: answer))
    }
  }

  /// A call is about to be made.
  func begin(_ call: TapeCall) {
    update { (desk) throws(RecordingError) in
      desk.isCalling = true
      let isIdle = call == TapeCall(call: call.call) && call.call.kind == .poll
      desk.kept = call
      if !isIdle { try releaseKept(&desk) }
    }
  }

  /// The call has been made.
  func end(_ patches: [Patch], _ outcome: Outcome) {
    update { (desk) throws(RecordingError) in
      desk.isCalling = false
      if desk.kept != nil, outcome.isNothing {
        desk.kept = nil
        return
      }
      try releaseKept(&desk)
      let record = TapeOutcome(patches: patches, exchanges: desk.exchanges, outcome: outcome)
      desk.exchanges = []
      try append(.outcome, record, &desk)
    }
  }

  /// No more can be recorded.
  func fail(_ error: RecordingError) {
    update { (_) throws(RecordingError) in throw error }
  }

  /// Ends the recording. Without it the file counts as cut off.
  public func finish() {
    update { (desk) throws(RecordingError) in
      try append(.end, TapeEnd(callCount: desk.callCount), &desk)
      desk.hasEnded = true
    }
  }

  private func update(_ body: (inout Desk) throws(RecordingError) -> Void) {
    let failure: RecordingError? = desk.withLock { desk in
      guard !desk.hasEnded else { return nil }
      do throws(RecordingError) {
        try body(&desk)
        return nil
      } catch {
        desk.hasEnded = true
        return error
      }
    }
    if let failure { sink.report(failure) }
  }

  private func releaseKept(_ desk: inout Desk) throws(RecordingError) {
    guard let call = desk.kept else { return }
    desk.kept = nil
    desk.callCount += 1
    try append(.call, call, &desk)
  }

  private func append(_ kind: TapeKind, _ record: some TapeRecord, _ desk: inout Desk) throws(RecordingError) {
    let contents = try TapeWriter.bytes(of: record)
    guard contents.count <= TapeLimits.recordByteCount else {
      throw .tooMuch("bytes in one step", count: contents.count, limit: TapeLimits.recordByteCount)
    }
    var bytes: [UInt8] = []
    TapeFrames.append(kind, contents, &desk.checksum, to: &bytes)
    try send(bytes, &desk)
  }

  private func send(_ bytes: [UInt8], _ desk: inout Desk) throws(RecordingError) {
    desk.byteCount += bytes.count
    guard desk.byteCount <= TapeLimits.fileByteCount else {
      throw .tooMuch("bytes", count: desk.byteCount, limit: TapeLimits.fileByteCount)
    }
    do throws(LinuxError) { try sink.write(bytes) } catch { throw .system(error) }
  }
}
