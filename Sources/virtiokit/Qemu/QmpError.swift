import LinuxIO
import Options

/// Why QEMU's control socket was of no use.
enum QmpError: Error, Equatable {
  /// Nobody listens at the path.
  case noServer(path: String, LinuxError)
  /// Whoever listens says nothing.
  case silent(path: String)
  /// Whoever listens does not speak QMP.
  case notQmp(path: String, text: String)
  /// QEMU closed the connection before it answered.
  case gone(command: String)
  /// QEMU did not answer in time.
  case stalled(command: String, limit: Duration)
  /// A line is longer than any that is taken.
  case lineTooLong(most: Int)
  /// A line is not a JSON object.
  case malformed(line: String)
  /// QEMU answered with an error, in its own words.
  case refused(command: String, reason: String)
  /// The answer is not one to this command.
  case unexpected(command: String, answer: String)
  /// QEMU could not save its devices, or load them.
  case streamFailed(reason: String)
  /// The devices' state is longer than any that is taken.
  case tooMuchState(most: Int)
  /// The kernel failed.
  case system(LinuxError)
}

extension QmpError: CustomStringConvertible {
  var description: String {
    switch self {
    case .noServer(let path, let error):
      "no QEMU at \(path) (\(error)): start it with -qmp unix:\(path),server=on,wait=off"
    case .silent(let path):
      "\(path) takes the connection and says nothing: QEMU serves one client at a time, so another may be connected"
    case .notQmp(let path, let text): "what listens at \(path) is no QEMU: it says \"\(text)\""
    case .gone(let command): "QEMU went away on \"\(command)\": its own messages say why"
    case .stalled(let command, let limit): "QEMU did not answer \"\(command)\" within \(limit.optionText)"
    case .lineTooLong(let most): "QEMU sent a line of more than \(most) bytes"
    case .malformed(let line): "QEMU sent what is no JSON object: \"\(line)\""
    case .refused(let command, let reason): "QEMU does not do \"\(command)\": \(reason)"
    case .unexpected(let command, let answer): "QEMU answered \"\(command)\" with \(answer)"
    case .streamFailed(let reason): "QEMU's own migration of its devices failed: \(reason)"
    case .tooMuchState(let most): "QEMU's devices have more than \(most) bytes of state: is all memory shared?"
    case .system(let error): error.description
    }
  }
}
