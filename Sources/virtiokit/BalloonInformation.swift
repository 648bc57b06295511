import Balloon
import Options

/// What there is to say of a balloon, for people and for programs.
struct BalloonInformation {
  /// Nil while no front-end shares memory.
  let memoryByteCount: UInt64?
  let report: BalloonReport
  let readings: [(BalloonStatistic, StatisticReading)]

  var text: String {
    guard let memoryByteCount else { return "no guest is connected\n" }
    let sizes: [(String, UInt64)] = [
      ("memory", memoryByteCount), ("target", report.targetByteCount), ("actual", report.actualByteCount),
      ("in the balloon", report.inflatedByteCount), ("reclaimed", report.reclaimedByteCount),
      ("reported free", report.reportedByteCount), ("resident", report.residentByteCount),
    ]
    var lines = sizes.map { Self.line($0, "\(ByteCount(bytes: $1))") }
    lines += readings.compactMap(Self.line)
    if let warning = report.warning { lines.append("warning: \(warning)") }
    return lines.map { "\($0)\n" }.joined()
  }

  private static func line(_ name: String, _ value: String) -> String {
    name + String(repeating: " ", count: max(1, 24 - name.count)) + value
  }

  private static func line(_ statistic: BalloonStatistic, _ reading: StatisticReading) -> String? {
    let (value, age, remark): (UInt64, UInt64, String)
    switch reading {
    case .neverReported: return nil
    case .fresh(let number, let time): (value, age, remark) = (number, time, "")
    case .stale(let number, let time): (value, age, remark) = (number, time, ", stale")
    }
    let amount = statistic.isByteCount ? "\(ByteCount(bytes: value))" : "\(value)"
    return line("guest \(words(statistic, " "))", "\(amount) (\(seconds(age)) s ago\(remark))")
  }

  var json: JSON {
    guard let memoryByteCount else { return .object([("connected", .bool(false))]) }
    return .object([
      ("connected", .bool(true)), ("memory_bytes", .number(memoryByteCount)),
      ("target_bytes", .number(report.targetByteCount)), ("actual_bytes", .number(report.actualByteCount)),
      ("balloon_bytes", .number(report.inflatedByteCount)), ("reclaimed_bytes", .number(report.reclaimedByteCount)),
      ("reported_free_bytes", .number(report.reportedByteCount)), ("ignored_bytes", .number(report.ignoredByteCount)),
      ("resident_bytes", .number(report.residentByteCount)),
      ("warning", report.warning.map { .text("\($0)") } ?? .null),
      ("statistics", .object(readings.map { (Self.words($0, "_"), Self.json($1)) })),
    ])
  }

  private static func json(_ reading: StatisticReading) -> JSON {
    switch reading {
    case .neverReported: .null
    case .fresh(let value, let age): json(value, age, isStale: false)
    case .stale(let value, let age): json(value, age, isStale: true)
    }
  }

  private static func json(_ value: UInt64, _ age: UInt64, isStale: Bool) -> JSON {
    .object([
      ("value", .number(value)), ("age_milliseconds", .number(age / 1_000_000)), ("stale", .bool(isStale)),
    ])
  }

  private static func seconds(_ nanoseconds: UInt64) -> String {
    "\(nanoseconds / 1_000_000_000).\(nanoseconds / 100_000_000 % 10)"
  }

  /// `free memory` of `freeMemory`.
  private static func words(_ statistic: BalloonStatistic, _ separator: String) -> String {
    String(describing: statistic).reduce(into: "") { name, letter in
      name += letter.isUppercase ? separator + letter.lowercased() : String(letter)
    }
  }
}
