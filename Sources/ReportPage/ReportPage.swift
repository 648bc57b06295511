/// A page of HTML that needs nothing else to be shown: no network, no script.
public struct ReportPage {
  private static let style = """
    body { font: 15px/1.5 system-ui, sans-serif; max-width: 58rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
    table { border-collapse: collapse; margin: 1rem 0 } th, td { padding: .25rem .8rem; text-align: right }
    th:first-child, td:first-child { text-align: left } thead { border-bottom: 1px solid #888 }
    .plots { display: flex; flex-wrap: wrap; gap: 1rem } figure { margin: 0; flex: 1 1 17rem }
    figcaption { font-weight: 600 } svg { width: 100% } svg text { font-size: 11px; fill: #666 }
    .axis { stroke: #888 } rect { fill: #2a6fbb } polyline { fill: none; stroke: #2a6fbb; stroke-width: 1.5 }
    @media (prefers-color-scheme: dark) { body { background: #161616; color: #ddd } svg text { fill: #999 } }
    """

  private let title: String
  private let body: String

  /// - Parameters:
  ///   - title: plain text.
  ///   - body: what comes below it, as HTML.
  public init(title: String, body: String) {
    self.title = title
    self.body = body
  }

  /// The whole page.
  public var html: String {
    """
    <!DOCTYPE html>
    <html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
    <title>\(Self.escaped(title))</title><style>
    \(Self.style)
    </style></head><body>
    <h1>\(Self.escaped(title))</h1>
    \(body)
    </body></html>

    """
  }

  /// Plots beside each other, as far as there is room.
  public static func figures(_ plots: [Plot]) -> String {
    "<div class=\"plots\">\(plots.map(\.svg).joined(separator: "\n"))</div>"
  }

  /// A table; all cells are plain text.
  public static func table(_ headings: [String], _ rows: [[String]]) -> String {
    let body = rows.map { "<tr>" + $0.map { "<td>\(escaped($0))</td>" }.joined() + "</tr>" }
    return """
      <table><thead><tr>\(headings.map { "<th>\(escaped($0))</th>" }.joined())</tr></thead>
      <tbody>\(body.joined(separator: "\n"))</tbody></table>
      """
  }

  /// Plain text as HTML.
  public static func escaped(_ text: String) -> String {
    var escaped = ""
    for character in text {
      switch character {
      case "&": escaped += "&amp;"
      case "<": escaped += "&lt;"
      case ">": escaped += "&gt;"
      case "\"": escaped += "&quot;"
      default: escaped.append(character)
      }
    }
    return escaped
  }
}
