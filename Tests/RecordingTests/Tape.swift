import LinuxIO
import Recording

/// A recording that is kept in memory.
final class Tape: Sendable {
  private let kept = Monitor<(bytes: [UInt8], failures: [RecordingError])>(([], []))

  var sink: RecordingSink {
    RecordingSink { [self] bytes in
      kept.withLock { $0.bytes.append(contentsOf: bytes) }
    } report: { [self] failure in
      kept.withLock { $0.failures.append(failure) }
    }
  }

  var bytes: [UInt8] { kept.withLock { $0.bytes } }
  /// Why no more is recorded.
  var failures: [RecordingError] { kept.withLock { $0.failures } }
}
