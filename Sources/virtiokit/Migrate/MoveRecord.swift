import LinuxIO
import Migration

/// What a move was like, for `--json`, `--report` and the last lines on the terminal. Sizes are in bytes.
struct MoveRecord {
  /// What has become of a guest that was to shrink first.
  struct Balloon {
    /// The memory that it had; nil if it was not asked.
    var before: UInt64?
    var asked: UInt64 = 0
    var after: UInt64 = 0
    var seconds = 0.0
    /// Host memory behind the guest before it was asked.
    var residentBefore: UInt64
    /// Whether it has given all that it was asked for.
    var isComplete = false
    /// Why it has given what it has, and no more.
    var reason: String

    var bytesToGiveBack: UInt64 { before ?? 0 }
  }

  /// The guest.
  var memory: UInt64
  /// The files that its memory is, as `QemuMemory.layout` has them.
  var layout = ""
  var resident: UInt64
  var qemu: String
  var machine: String
  var wasRunning: Bool
  var balloon: Balloon?
  var forecast: MigrationForecast?
  var report: MigrationReport?
  /// Why it has not been moved.
  var failure: String?

  // MARK: - Bytes by kind

  private static let pageByteCount: UInt64 = 4096

  /// How memory went, each page as often as it did, in bytes of memory: what is in no other kind has gone as it is.
  var kinds: [(name: String, bytes: UInt64)] {
    guard let report else { return [] }
    let data = report.dataPageCount * Self.pageByteCount
    var kinds: [(String, UInt64)] = []
    if let codec = report.codec {
      let pages = [
        ("data", codec.plain), ("compressed", codec.lz4), ("changes", codec.delta), ("duplicate", codec.unchanged),
      ]
      kinds = pages.map { ($0.0, $0.1.pageCount * Self.pageByteCount) }
    } else {
      kinds = [("data", data), ("compressed", 0), ("changes", 0), ("duplicate", 0)]
    }
    let zeros = report.zeroPageCount + (report.codec?.zero.pageCount ?? 0)
    return kinds + [
      ("zero", zeros * Self.pageByteCount), ("skipped", report.absentPageCount * Self.pageByteCount),
      ("state", report.stateByteCount),
    ]
  }

  /// The share of the time that the guest ran while it was moved, at the least.
  var leastShare: Double { report?.passes.map(\.share).min() ?? 1 }
}

extension MoveRecord {
  var json: JSON {
    .object([
      ("moved", .bool(report != nil)),
      ("error", failure.map { .text($0) } ?? .null),
      (
        "guest",
        .object([
          ("memory_bytes", .number(memory)), ("resident_bytes", .number(resident)), ("qemu", .text(qemu)),
          ("machine", .text(machine)), ("was_running", .bool(wasRunning)),
        ])
      ),
      ("balloon", balloon.map(Self.json) ?? .null),
      ("forecast", forecast.map(Self.json) ?? .null),
      ("move", report.map(json) ?? .null),
    ])
  }

  private static func json(_ balloon: Balloon) -> JSON {
    let isAsked = balloon.before != nil
    func number(_ value: UInt64) -> JSON { isAsked ? .number(value) : .null }
    return .object([
      ("complete", .bool(balloon.isComplete)), ("reason", .text(balloon.reason)),
      ("before_bytes", number(balloon.bytesToGiveBack)), ("asked_bytes", number(balloon.asked)),
      ("after_bytes", number(balloon.after)), ("seconds", .real(balloon.seconds)),
      ("resident_before_bytes", .number(balloon.residentBefore)),
    ])
  }

  private static func json(_ forecast: MigrationForecast) -> JSON {
    .object([
      ("seconds", .real(forecast.seconds)), ("downtime_seconds", .real(forecast.downtimeSeconds)),
      ("passes", .number(UInt64(forecast.passCount))), ("fits", .bool(forecast.fits)),
      ("levers", .array(forecast.advice.map { .text($0) })),
    ])
  }

  private func json(_ report: MigrationReport) -> JSON {
    .object([
      ("seconds", .real(report.seconds)), ("downtime_seconds", report.downtimeSeconds.map { .real($0) } ?? .null),
      ("iterations", .number(UInt64(report.passCount))), ("wire_bytes", .number(report.wireByteCount)),
      ("bytes", .object(kinds.map { ($0.name, .number($0.bytes)) })),
      ("least_share", .real(leastShare)), ("verified", .bool(report.isVerified)),
      ("compared_pages", .number(report.comparedPageCount)), ("pinned_pages", .number(report.pinnedPageCount)),
      ("zero_copy", Self.json(report.zeroCopies)),
      ("passes", .array(report.passes.map(Self.json))),
    ])
  }

  private static func json(_ bytes: ZeroCopyReport) -> JSON {
    .object([
      ("uncopied_bytes", .number(bytes.uncopiedByteCount)), ("copied_bytes", .number(bytes.copiedByteCount)),
      ("refused_bytes", .number(bytes.refusedByteCount)),
    ])
  }

  private static func json(_ pass: MigrationReport.Pass) -> JSON {
    .object([
      ("sent_bytes", .number(pass.sentByteCount)), ("seconds", .real(pass.seconds)),
      ("remaining_bytes", .number(pass.remainingByteCount)),
      ("expected_downtime_seconds", .real(pass.expectedDowntimeSeconds)), ("share", .real(pass.share)),
    ])
  }
}

extension MigrationForecast {
  /// What to do, each as part of a sentence.
  var advice: [String] { levers.compactMap { advice(on: $0) } }

  /// Nil for what cannot be done with a guest whose memory another process has.
  private func advice(on lever: Lever) -> String? {
    switch lever {
    case .bandwidth(let rate): "a connection of \(Amount.rate(rate))"
    case .downtime(let seconds): "--downtime-limit \(Amount.seconds(seconds))"
    case .postcopy: nil
    case .slowDown(let share): "--slow-down, to \(Int((share * 100).rounded(.down))) % of its speed"
    case .balloon(_, let fitting?): "--balloon, until no more than \(Amount.bytes(fitting)) of its memory are in use"
    case .balloon(let seconds, nil):
      "--balloon\(fits ? "" : ", though it is not enough"): half of its memory would save \(Amount.seconds(seconds))"
    }
  }
}

extension MigrationForecast {
  /// What would help, as a sentence after others; empty where nothing would.
  var adviceSentence: String { advice.isEmpty ? "" : " What would help: \(advice.joined(separator: "; or "))." }
}

extension MoveRecord {
  /// What is said at the end.
  var summary: String {
    guard let report else { return "" }
    let lines = kinds.filter { $0.bytes > 0 }.map { "  \($0.name.padded(to: 12))\(Amount.bytes($0.bytes))" }
    var text = """
      Moved in \(Amount.seconds(report.seconds)), stopped for \
      \(Amount.seconds(report.downtimeSeconds ?? report.seconds)), in \(report.passCount + 1) passes over memory; \
      \(Amount.bytes(report.wireByteCount)) over the connection:
      \(lines.joined(separator: "\n"))
      """
    if leastShare < 1 { text += "\nThe guest was slowed down to \(Int(leastShare * 100)) % of its speed." }
    if report.isVerified { text += "\nVerified: \(report.comparedPageCount) pages are the same on both sides." }
    return text
  }
}

extension String {
  fileprivate func padded(to width: Int) -> String {
    self + String(repeating: " ", count: max(1, width - count))
  }
}
