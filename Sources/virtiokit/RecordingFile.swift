import LinuxIO
import Recording

/// The file that `--record` names.
final class RecordingFile: Sendable {
  private let file: FileDescriptor
  private let path: String

  /// - Parameter path: one that is there is replaced.
  init(_ path: String) throws(LinuxError) {
    self.path = path
    file = try FileDescriptor.open(path, for: .writing, creating: .emptied)
  }

  /// Takes a recording. The device goes on when it cannot.
  var sink: RecordingSink {
    RecordingSink { [self] bytes throws(LinuxError) in
      try file.writeAll(bytes)
    } report: { [path] error in
      Terminal.complain("\(path): no more is recorded: \(error)")
    }
  }
}
