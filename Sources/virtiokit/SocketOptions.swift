import LinuxIO
import Options

/// Where a command listens, or whom it was handed: what every device has options for.
struct SocketOptions {
  var socketPaths: [String]
  var descriptor: Int?
  var control: String?

  /// Refuses what can be known to fail, or to be a mistake, before anything is opened.
  func check() throws(OptionError) {
    if let descriptor, Int32(exactly: descriptor) == nil || descriptor < 3 {
      throw .rejected(option: "--fd", value: "\(descriptor)", reason: "it is not the number of an inherited descriptor")
    }
    if let descriptor, !socketPaths.isEmpty {
      throw .rejected(option: "--fd", value: "\(descriptor)", reason: "--socket-path is given too")
    }
    if descriptor == nil, socketPaths.isEmpty { throw .missingOption("--socket-path", placeholder: "PATH") }
    for (number, path) in socketPaths.enumerated() {
      try Self.check(path, of: "--socket-path")
      if socketPaths[..<number].contains(path) {
        throw .rejected(option: "--socket-path", value: path, reason: "two cards cannot share a socket")
      }
    }
    guard let control else { return }
    try Self.check(control, of: "--control")
    if socketPaths.contains(control) {
      throw .rejected(option: "--control", value: control, reason: "--socket-path names it too")
    }
  }

  /// Refuses a path at which no socket can be.
  static func check(_ path: String, of option: String) throws(OptionError) {
    guard !path.isEmpty else { throw .missingValue(option: option, placeholder: "PATH") }
    guard path.utf8.count <= SocketAddress.largestPathByteCount else {
      throw .rejected(
        option: option, value: path,
        reason: "a socket's path has at most \(SocketAddress.largestPathByteCount) bytes; a relative one may do")
    }
  }
}
