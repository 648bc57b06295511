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
    <p>Workload \(report.workload ?? "none"), seed \(report.seed ?? 0). The balloon left it \(Size(report.actualBytes)) of the \
    \(Size(report.targetBytes)) asked for; \(Size(report.residentBeforeBytes)) of host memory became \
    \(Size(report.residentAfterBytes)). \(verdict)</p>
    \(table)
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
        move.name, "\(Size(move.bytes))", seconds(move.seconds), seconds(move.downtimeSeconds), "\(move.passes)",
        "\(move.pagesChecked)",
      ]
      return "<tr>" + cells.map { "<td>\($0)</td>" }.joined() + "</tr>"
    }
    let heads = ["move", "bytes", "time", "stopped", "passes", "pages checked"]
    return """
      <table><thead><tr>\(heads.map { "<th>\($0)</th>" }.joined())</tr></thead>
      <tbody>\(rows.joined(separator: "\n"))</tbody></table>
      """
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
        points: move.progress.map { ($0.seconds, $0.stepsPerSecond) }),
    ]
    return "<h2>Moved \(move.name)</h2><div class=\"plots\">\(plots.map(\.svg).joined(separator: "\n"))</div>"
  }

  private func seconds(_ value: Double) -> String {
    value < 1 ? String(format: "%.0f ms", value * 1000) : String(format: "%.2f s", value)
  }
}
