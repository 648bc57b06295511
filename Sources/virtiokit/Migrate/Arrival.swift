import Migration

/// What has become of a guest that has come. Sizes are in bytes.
struct Arrival {
  /// A guest that was shrunk, and is to have its memory back.
  struct Growth {
    let asked: UInt64
    let after: UInt64
    let seconds: Double
  }

  let wasRunning: Bool
  let runs: Bool
  /// From the moment that all of it was here until QEMU ran it, in seconds: the last part of its downtime. The other side
  /// counts only until it hears that the guest is taken.
  var stillSeconds: Double?
  var growth: Growth?

  var manner: String {
    if runs { return "runs" }
    return wasRunning ? "is paused, until QEMU is told cont" : "is paused, as it was"
  }

  func json(_ report: MigrationReport) -> JSON {
    .object([
      ("arrived", .bool(true)), ("runs", .bool(runs)), ("seconds", .real(report.seconds)),
      ("downtime_here_seconds", stillSeconds.map { .real($0) } ?? .null), ("wire_bytes", .number(report.wireByteCount)),
      ("pinned_pages", .number(report.pinnedPageCount)), ("balloon", growth.map(\.json) ?? .null),
    ])
  }
}

extension Arrival.Growth {
  private var isComplete: Bool { after >= asked }

  var line: String {
    let time = Amount.seconds(seconds)
    return isComplete
      ? "It has its \(Amount.bytes(asked)) back, after \(time)."
      : "It has \(Amount.bytes(after)) of its \(Amount.bytes(asked)) back after \(time), and takes no more for now."
  }

  var json: JSON {
    .object([
      ("complete", .bool(isComplete)), ("asked_bytes", .number(asked)), ("after_bytes", .number(after)),
      ("seconds", .real(seconds)),
    ])
  }
}
