import Foundation

/// A plot as SVG text: points joined by lines, or bars.
public struct Plot {
  public enum Style: Sendable {
    case bars, line
  }

  private static let (width, height, left, bottom) = (420.0, 200.0, 56.0, 28.0)

  private let title: String
  private let axes: (x: String, y: String)
  private let style: Style
  private let points: [(x: Double, y: Double)]

  /// - Parameters:
  ///   - axes: what the horizontal axis counts, and the vertical one.
  ///   - points: numbers that are none, and infinite ones, are shown as 0.
  public init(title: String, axes: (x: String, y: String), style: Style, points: [(x: Double, y: Double)]) {
    self.title = title
    self.axes = axes
    self.style = style
    self.points = points.map { ($0.x.isFinite ? $0.x : 0, $0.y.isFinite ? $0.y : 0) }
  }

  /// A figure with its caption, for a page of `ReportPage`.
  public var svg: String {
    let marks = style == .bars ? bars : line
    return """
      <figure><figcaption>\(title), \(axes.y)</figcaption>
      <svg viewBox="0 0 \(Self.width) \(Self.height)" role="img" aria-label="\(title)">
      <line class="axis" x1="\(Self.left)" y1="\(floor)" x2="\(Self.width)" y2="\(floor)"/>
      <line class="axis" x1="\(Self.left)" y1="8" x2="\(Self.left)" y2="\(floor)"/>
      <text x="\(Self.left - 6)" y="16" text-anchor="end">\(number(mostY))</text>
      <text x="\(Self.left - 6)" y="\(floor)" text-anchor="end">0</text>
      <text x="\(Self.width)" y="\(Self.height - 8)" text-anchor="end">\(number(mostX)) \(axes.x)</text>
      \(marks)
      </svg></figure>
      """
  }

  private var floor: Double { Self.height - Self.bottom }
  private var mostY: Double { max(points.map(\.y).max() ?? 0, 1e-9) }
  private var mostX: Double { max(points.map(\.x).max() ?? 0, 1e-9) }

  private func place(_ y: Double) -> Double { floor - y / mostY * (floor - 12) }

  private var bars: String {
    let step = (Self.width - Self.left) / Double(max(points.count, 1))
    return points.enumerated().map { (index, point) in
      let x = Self.left + Double(index) * step + step * 0.15
      let top = place(point.y)
      return """
        <rect x="\(short(x))" y="\(short(top))" width="\(short(step * 0.7))" height="\(short(floor - top))">\
        <title>\(number(point.x)): \(number(point.y))</title></rect>
        """
    }.joined(separator: "\n")
  }

  private var line: String {
    let places = points.map { (point) in
      "\(short(Self.left + point.x / mostX * (Self.width - Self.left - 4))),\(short(place(point.y)))"
    }
    return "<polyline points=\"\(places.joined(separator: " "))\"/>"
  }

  private func short(_ value: Double) -> String { String(format: "%.1f", value) }
  private func number(_ value: Double) -> String { String(format: value < 10 ? "%.2g" : "%.0f", value) }
}
