import Foundation
import Glibc
import LinuxIO
import Options

/// A process that ends a guest when the demo is gone without having done so, even when it was killed.
///
/// A kernel in a process is several processes. Those that help the first one outlive it when it is killed, and hold the
/// guest's memory and its connections, so all that the guest is made of must be ended.
final class GuestGuard {
  /// The hidden first argument by which the program knows that it is to guard a guest.
  static let roleArgument = "guard-a-guest"

  private let process: ChildProcess
  /// The guard waits for a word on it, and learns from its end that there is nobody left to say it.
  private let line: FileDescriptor

  /// Starts the process.
  /// - Parameters:
  ///   - group: the process group that the guest is made of.
  ///   - directory: what to remove with it.
  init(group: Int32, directory: String) throws {
    let pipe = try FileDescriptor.pipe()
    line = try pipe.writing.duplicate()
    process = try ChildProcess(
      try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"),
      [Self.roleArgument, "\(group)", directory],
      streams: .init(input: .descriptor(pipe.reading.rawValue), output: .null), hasOwnGroup: true)
  }

  /// Ends the guard and leaves it nothing to do: the guest has ended.
  func dismiss() {
    // A guard that has gone needs no word.
    try? line.writeAll([1])
    process.waitUntilExit()
  }

  /// What the guard does, in its own process.
  /// - Parameter arguments: those of the program, after the role.
  static func main(_ arguments: [String]) -> ExitCode {
    guard arguments.count == 2, let group = Int32(arguments[0]), group > 1 else { return .usage }
    let input = FileDescriptor(owning: 0)
    if let word = try? input.readBytes(upTo: 1), !word.isEmpty { return .success }
    kill(-group, SIGKILL)
    try? FileManager.default.removeItem(atPath: arguments[1])
    return .failure
  }
}
