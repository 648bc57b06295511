import LinuxIO
import Options

/// Why the demo with a real guest stopped. What it says is for the person at the terminal.
enum LinuxDemoError: Error, Equatable {
  case missing(String, package: String)
  case targetTooSmall(UInt64, memory: UInt64, least: UInt64)
  case targetNotBelowMemory(UInt64, memory: UInt64)
  case notWholePages(UInt64)
  case notEnoughMemory(needed: UInt64, available: UInt64)
  case noPlace(byteCount: UInt64, refusals: [String])
  case toolFailed(String, ChildProcess.End)
  /// The guest was gone before it had done what it was waited for.
  case guestEnded(before: String, lastWords: [String])
  case guestFailed(String)
  case timedOut(waitingFor: String, Duration, lastWords: [String])
  case deviceFailed(String)
  case interrupted(signal: Int32)
}

extension LinuxDemoError: CustomStringConvertible {
  var description: String {
    switch self {
    case .missing(let what, let package):
      "\(what) is missing, and a Linux guest needs it: apt-get install \(Self.packages(with: package))"
    case .targetTooSmall(let target, let memory, let least):
      "with \(Self.size(target)) a Linux guest of \(Self.size(memory)) would run out of memory; "
        + "give it at least \(Self.size(least))"
    case .targetNotBelowMemory(let target, let memory):
      "a target of \(Self.size(target)) takes nothing from a guest that has \(Self.size(memory))"
    case .notWholePages(let byteCount): "\(Self.size(byteCount)) are not whole pages of 4 KiB"
    case .notEnoughMemory(let needed, let available):
      "the guest needs \(Self.size(needed)), and this machine has \(Self.size(available)) free"
    case .noPlace(let byteCount, let refusals):
      "no place for the guest's memory of \(Self.size(byteCount)): \(refusals.joined(separator: ", "))"
    case .toolFailed(let path, let end): "\(path) \(end)"
    case .guestEnded(let aim, let words): "the guest ended before \(aim)" + Self.quoted(words)
    case .guestFailed(let reason): "the guest gives up: \(reason)"
    case .timedOut(let aim, let limit, let words):
      "the guest was ended after \(limit.components.seconds) s, before \(aim)" + Self.quoted(words)
    case .deviceFailed(let reason): "the balloon's connection with the guest ended: \(reason)"
    case .interrupted(let signal): "ended by signal \(signal)"
    }
  }

  /// Whoever lacks one of the two packages every guest needs may lack the other too.
  private static func packages(with package: String) -> String {
    let usual = ["user-mode-linux", "busybox-static"]
    return (usual.contains(package) ? usual : usual + [package]).joined(separator: " ")
  }

  private static func size(_ byteCount: UInt64) -> String {
    ByteCount(bytes: byteCount).description
  }

  private static func quoted(_ lines: [String]) -> String {
    lines.isEmpty ? "" : "; its last words:" + lines.map { "\n  | \($0)" }.joined()
  }
}
