import LinuxIO
import Recording

/// The file that `--record` names.
final class RecordingFile: Sendable {
  private let file: FileDescriptor
  private let path: String

  /// - Parameter path: an older recording that is there is replaced; any other file is left alone, as a disk's image that
  ///   was named by mistake, and so is what is no file, as a pipe whose reader may keep the device waiting.
  init(_ path: String) throws {
    if let beginning = try InputFile.beginning(of: path), !Recording.isBegun(by: beginning) {
      throw OutputTrouble.holdsOther(path, than: "recording")
    }
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
