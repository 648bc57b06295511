import Foundation

/// What the demo asks of the machine that it runs on.
enum HostMachine {
  /// The memory that can be had without swapping, in bytes, or nil when the kernel does not say.
  static var availableMemory: UInt64? {
    guard let text = try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8) else { return nil }
    let line = text.split(separator: "\n").first { $0.hasPrefix("MemAvailable:") }
    return line?.split(separator: " ").dropFirst().first.flatMap { UInt64($0) }.map { $0 * 1024 }
  }
}

/// A directory of this run's own.
struct TemporaryDirectory {
  private let url: URL

  init() throws {
    url = FileManager.default.temporaryDirectory.appendingPathComponent("balloon-demo-\(UUID().uuidString.prefix(8))")
    try FileManager.default.createDirectory(
      at: url, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
  }

  func path(of name: String) -> String {
    url.appendingPathComponent(name).path
  }

  /// What cannot be removed is left to the system's own cleaning of temporary files.
  func remove() {
    try? FileManager.default.removeItem(at: url)
  }
}
