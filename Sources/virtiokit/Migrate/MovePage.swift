import Migration
import ReportPage

/// A move as one page that needs nothing else: what `--report` writes.
struct MovePage {
  let record: MoveRecord

  var html: String {
    let title = "A guest of \(Amount.bytes(record.memory)) on the move"
    let parts = [opening, outcome, forecast, kinds, figures, passes]
    return ReportPage(title: title, body: parts.joined(separator: "\n")).html
  }

  private func paragraph(_ text: String) -> String { "<p>\(ReportPage.escaped(text))</p>" }

  private var opening: String {
    let balloon = record.balloon.map { (balloon) in
      guard balloon.before != nil else { return " It has not been shrunk: \(balloon.reason)." }
      return " \(balloon.outcome) in \(Amount.seconds(balloon.seconds)): \(balloon.reason). "
        + "\(Amount.bytes(balloon.residentBefore)) behind it became \(Amount.bytes(record.resident))."
    }
    return paragraph(
      "QEMU \(record.qemu), \(record.machine); the host has \(Amount.bytes(record.resident)) behind the guest."
        + (balloon ?? ""))
  }

  private var outcome: String {
    guard let report = record.report else {
      return paragraph(
        record.failure.map { "It has not been moved: \($0)." } ?? "Nothing was moved: this is a forecast.")
    }
    let rows = [
      ["in all", Amount.seconds(report.seconds)],
      ["stood still", report.downtimeSeconds.map(Amount.seconds) ?? "all the time"],
      ["passes over memory", "\(report.passCount + 1)"], ["over the connection", Amount.bytes(report.wireByteCount)],
      ["ran at the least at", "\(Int(record.leastShare * 100)) % of its speed"],
      ["pages compared", report.isVerified ? "\(report.comparedPageCount), all the same" : "none"],
    ]
    return ReportPage.table(["the move", ""], rows)
  }

  private var forecast: String {
    guard let forecast = record.forecast else { return "" }
    let report = record.report
    let rows = [
      ["in all", Amount.seconds(forecast.seconds), report.map { Amount.seconds($0.seconds) } ?? ""],
      [
        "stood still", Amount.seconds(forecast.downtimeSeconds),
        report?.downtimeSeconds.map(Amount.seconds) ?? "",
      ],
      ["passes while it ran", "\(forecast.passCount)", report.map { "\($0.passes.count)" } ?? ""],
    ]
    return ReportPage.table(["", "expected", "measured"], rows)
      + paragraph(
        (forecast.fits ? "It was expected to fit." : "It was not expected to fit.") + forecast.adviceSentence)
  }

  private var kinds: String {
    guard record.report != nil else { return "" }
    return ReportPage.table(
      ["kind of page", "bytes of memory"], record.kinds.map { [$0.name, Amount.bytes($0.bytes)] })
  }

  private var figures: String {
    guard let passes = record.report?.passes, !passes.isEmpty else { return "" }
    let numbered = passes.enumerated().map { (x: Double($0.offset + 1), pass: $0.element) }
    func plot(_ title: String, _ unit: String, _ y: (MigrationReport.Pass) -> Double) -> Plot {
      Plot(title: title, axes: ("passes", unit), style: .bars, points: numbered.map { ($0.x, y($0.pass)) })
    }
    return ReportPage.figures([
      plot("Left to send after each pass", "MiB") { Double($0.remainingByteCount) / 1_048_576 },
      plot("Throughput of each pass", "MB/s") { Double($0.sentByteCount) / max($0.seconds, 1e-6) / 1e6 },
      plot("Downtime, if it had been stopped then", "ms") { $0.expectedDowntimeSeconds * 1000 },
      plot("Written by the guest", "MB/s") { Double($0.remainingByteCount) / max($0.seconds, 1e-6) / 1e6 },
      plot("Speed of the guest", "%") { $0.share * 100 },
    ])
  }

  private var passes: String {
    guard let passes = record.report?.passes, !passes.isEmpty else { return "" }
    let rows = passes.enumerated().map { (index, pass) in
      [
        "\(index + 1)", Amount.bytes(pass.sentByteCount), Amount.seconds(pass.seconds),
        Amount.bytes(pass.remainingByteCount), Amount.seconds(pass.expectedDowntimeSeconds),
        "\(Int(pass.share * 100)) %",
      ]
    }
    return ReportPage.table(["pass", "sent", "time", "written meanwhile", "downtime", "speed"], rows)
  }
}
