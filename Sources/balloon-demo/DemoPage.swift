import Foundation
import ReportPage

/// A run of the demo as one page that needs nothing else: what `--report` writes.
struct DemoPage {
  let report: DemoReport

  var html: String {
    let text = """
      <p>Workload \(report.workload ?? "none"), seed \(report.seed ?? 0). The balloon left it \(Size(report.actualBytes))\
      \(report.targetBytes.map { " of the \(Size($0)) asked for" } ?? ", as far as its own statistics allowed"); \
      \(Size(report.residentBeforeBytes)) of host memory became \(Size(report.residentAfterBytes)). \(verdict)</p>
      """
    let body = [text, table, ReportPage.figures(comparison)] + report.moves.map(section)
    return ReportPage(title: "A guest of \(Size(report.memoryBytes)) on the move", body: body.joined(separator: "\n"))
      .html
  }

  private var verdict: String {
    report.verified
      ? "Everything that the guest had written was right after each move." : "Not everything could be verified."
  }

  private var table: String {
    let rows = report.moves.map { (move) in
      [
        move.name, "\(Size(move.residentBytes))", "\(Size(move.shrink?.guestBytes ?? report.memoryBytes))",
        "\(Size(move.bytes))",
        "\(Size(move.skippedBytes))", move.shrink.map { "\(Seconds($0.seconds))" } ?? "", "\(Seconds(move.seconds))",
        "\(Seconds(move.totalSeconds))", "\(Seconds(move.downtimeSeconds))", "\(move.passes)",
        move.workShare.map { String(format: "%.0f %%", $0 * 100) } ?? "none", "\(move.pagesChecked)",
      ]
    }
    let heads = [
      "move", "host memory before", "guest keeps", "sent", "left out", "shrink", "move", "in all", "stopped", "passes",
      "guest's work",
      "pages checked",
    ]
    return ReportPage.table(heads, rows)
  }

  /// All moves beside each other, in the order of the table.
  private var comparison: [Plot] {
    let numbered = report.moves.enumerated().map { (x: Double($0.offset + 1), move: $0.element) }
    func plot(_ title: String, _ unit: String, _ value: (MoveView) -> Double) -> Plot {
      Plot(title: title, axes: ("moves", unit), style: .bars, points: numbered.map { ($0.x, value($0.move)) })
    }
    return [
      plot("Sent by each move", "MiB") { Double($0.bytes) / 1_048_576 },
      plot("Time of each move, with shrinking", "s", \.totalSeconds),
      plot("Stopped by each move", "ms") { $0.downtimeSeconds * 1000 },
    ]
  }

  private func section(_ move: MoveView) -> String {
    guard !move.passList.isEmpty else { return "<h2>Moved \(move.name)</h2><p>The guest stood still.</p>" }
    let numbered = move.passList.enumerated().map { (x: Double($0.offset + 1), pass: $0.element) }
    let plots = [
      Plot(
        title: "Left to send after each pass", axes: ("passes", "MiB"), style: .bars,
        points: numbered.map { ($0.x, Double($0.pass.remainingBytes) / 1_048_576) }),
      Plot(
        title: "Throughput of each pass", axes: ("passes", "MB/s"), style: .bars,
        points: numbered.map { ($0.x, Double($0.pass.sentBytes) / max($0.pass.seconds, 1e-6) / 1e6) }),
      Plot(
        title: "What the guest got done", axes: ("seconds", "steps/s"), style: .line,
        points: progress(of: move)),
    ]
    return "<h2>Moved \(move.name)</h2>\(ReportPage.figures(plots))"
  }

  /// The guest's work while it was shrunk, and then while it was moved.
  private func progress(of move: MoveView) -> [(x: Double, y: Double)] {
    let start = move.shrink?.seconds ?? 0
    return (move.shrink?.progress.map { ($0.seconds, $0.stepsPerSecond) } ?? [])
      + move.progress.map { (start + $0.seconds, $0.stepsPerSecond) }
  }
}
