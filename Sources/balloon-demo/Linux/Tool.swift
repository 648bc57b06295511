import Foundation
import LinuxIO

/// A program that is run for what it prints.
struct Tool {
  private static let usualDirectories = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]

  private let url: URL

  init(_ url: URL) {
    self.url = url
  }

  /// Where a program is, by the search path and then the usual places.
  static func find(_ name: String) -> URL? {
    let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
    let directories = path.split(separator: ":").map(String.init) + usualDirectories
    let candidates = directories.map { URL(fileURLWithPath: $0).appendingPathComponent(name) }
    return candidates.first { FileManager.default.isExecutableFile(atPath: $0.path) }
  }

  /// Runs the program to its end and returns its standard output.
  func output(of arguments: [String]) throws -> [UInt8] {
    let outcome = try ChildProcess.run(url.path, arguments, error: .null)
    guard outcome.end == .exit(0) else { throw LinuxDemoError.toolFailed(url.path, outcome.end) }
    return outcome.output
  }

  /// Whether the program can run another one here; containers forbid some of what it is to do first.
  func canRun(_ arguments: [String]) -> Bool {
    (try? output(of: arguments + ["true"])) != nil
  }
}
