import Foundation

/// A run of the demo as one page that needs nothing else: what `--report` writes.
struct DemoPage {
  let report: DemoReport

  private static let style = """
    body { font: 15px/1.5 system-ui, sans-serif; max-width: 58rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
    table { border-collapse: collapse; margin: 1rem 0 } th, td { padding: .25rem .8rem; text-align: right }
    th:first-child, td:first-child { text-align: left } thead { border-bottom: 1px solid #888 }
    .plots { display: flex; flex-wrap: wrap; gap: 1rem } figure { margin: 0; flex: 1 1 17rem }
    figcaption { font-weight: 600 } svg { width: 100% } svg text { font-size: 11px; fill: #666 }
    .axis { stroke: #888 } rect { fill: #2a6fbb } polyline { fill: none; stroke: #2a6fbb; stroke-width: 1.5 }
    @media (prefers-color-scheme: dark) { body { background: #161616; color: #ddd } svg text { fill: #999 } }
    """

  var html: String {
    """
    <!DOCTYPE html>
    <html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
    <title>A guest on the move</title><style>
    \(Self.style)
    </style></head><body>
    <h1>A guest of \(Size(report.memoryBytes)) on the move</h1>
    <p>Workload \(report.workload ?? "none"), seed \(report.seed ?? 0). The balloon left it \(Size(report.actualBytes))\
    \(report.targetBytes.map { " of the \(Size($0)) asked for" } ?? ", as far as its own statistics allowed"); \
    \(Size(report.residentBeforeBytes)) of host memory became \(Size(report.residentAfterBytes)). \(verdict)</p>
    \(table)
    <div class="plots">\(comparison.map(\.svg).joined(separator: "\n"))</div>
    \(report.moves.map(section).joined(separator: "\n"))
    </body></html>

    """
  }

  private var verdict: String {
    report.verified
      ? "Everything that the guest had written was right after each move." : "Not everything could be verified."
  }

  private var table: String {
    let rows = report.moves.map { (move) in
      let cells = [
        move.name, "\(Size(move.residentBytes))", "\(Size(move.shrink?.guestBytes ?? report.memoryBytes))",
        "\(Size(move.bytes))",
        "\(Size(move.skippedBytes))", move.shrink.map { "\(Seconds($0.seconds))" } ?? "", "\(Seconds(move.seconds))",
        "\(Seconds(move.totalSeconds))", "\(Seconds(move.downtimeSeconds))", "\(move.passes)",
        move.workShare.map { String(format: "%.0f %%", $0 * 100) } ?? "none", "\(move.pagesChecked)",
      ]
      return "<tr>" + cells.map { "<td>\($0)</td>" }.joined() + "</tr>"
    }
    let heads = [
      "move", "host memory before", "guest keeps", "sent", "left out", "shrink", "move", "in all", "stopped", "passes",
      "guest's work",
      "pages checked",
    ]
    return """
      <table><thead><tr>\(heads.map { "<th>\($0)</th>" }.joined())</tr></thead>
      <tbody>\(rows.joined(separator: "\n"))</tbody></table>
      """
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
    return "<h2>Moved \(move.name)</h2><div class=\"plots\">\(plots.map(\.svg).joined(separator: "\n"))</div>"
  }

  /// The guest's work while it was shrunk, and then while it was moved.
  private func progress(of move: MoveView) -> [(x: Double, y: Double)] {
    let start = move.shrink?.seconds ?? 0
    return (move.shrink?.progress.map { ($0.seconds, $0.stepsPerSecond) } ?? [])
      + move.progress.map { (start + $0.seconds, $0.stepsPerSecond) }
  }
}
