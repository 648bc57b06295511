import Foundation
import LinuxIO
import Synchronization

/// What is said of a move while it goes on: lines for people on standard output, and one that the next replaces on
/// standard error, where a terminal is. With `--json` nothing of it.
final class Narrator: Sendable {
  private let isQuiet: Bool
  private let isWatched: Bool
  private let hasProgress = Mutex(false)

  init(isQuiet: Bool) {
    self.isQuiet = isQuiet
    isWatched = !isQuiet && isatty(2) == 1
  }

  func say(_ line: String) {
    guard !isQuiet else { return }
    clear()
    Terminal.write("\(line)\n")
  }

  func progress(_ text: String) {
    guard isWatched else { return }
    hasProgress.withLock { $0 = true }
    Terminal.overwrite("  \(text)")
  }

  /// Takes the line away that would be replaced.
  func clear() {
    let had = hasProgress.withLock { (has) in
      defer { has = false }
      return has
    }
    if had { Terminal.overwrite("") }
  }
}

/// Amounts as people read them, with three digits.
enum Amount {
  static func bytes(_ count: UInt64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] as [(String, UInt64)] where count >= 1 << shift {
      return digits(Double(count) / Double(UInt64(1) << shift), unit)
    }
    return "\(count) B"
  }

  static func seconds(_ seconds: Double) -> String {
    guard seconds.isFinite else { return "for ever" }
    return seconds < 1 ? digits(seconds * 1000, "ms") : digits(seconds, "s")
  }

  /// Bytes a second.
  static func rate(_ perSecond: Double) -> String {
    perSecond.isFinite ? digits(perSecond / 1e6, "MB/s") : "any rate"
  }

  private static func digits(_ value: Double, _ unit: String) -> String {
    String(format: value >= 100 ? "%.0f" : value >= 10 ? "%.1f" : "%.2f", value) + " " + unit
  }
}
