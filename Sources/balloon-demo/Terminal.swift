import Foundation
import Options

/// A size as people read it, with three digits: `1.46 GiB`.
struct Size: CustomStringConvertible {
  let bytes: UInt64

  init(_ bytes: UInt64) {
    self.bytes = bytes
  }

  var description: String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] where bytes >= 1 << UInt64(shift) {
      let value = Double(bytes) / Double(UInt64(1) << UInt64(shift))
      let digits = value >= 100 ? 0 : value >= 10 ? 1 : 2
      return String(format: "%.\(digits)f \(unit)", value)
    }
    return "\(bytes) B"
  }
}

/// A time as people read it: `12 ms`, `1.50 s`.
struct Seconds: CustomStringConvertible {
  let seconds: Double

  init(_ seconds: Double) {
    self.seconds = seconds
  }

  var description: String {
    String(format: seconds < 1 ? "%.0f ms" : "%.2f s", seconds < 1 ? seconds * 1000 : seconds)
  }
}

/// Text for the person at the terminal. With `--json` nothing of it goes to standard output.
struct Terminal {
  let isQuiet: Bool
  private let isInteractive = isatty(1) == 1

  func say(_ text: String) {
    guard !isQuiet else { return }
    clearProgress()
    print(text)
    fflush(nil)
  }

  /// One line that the next one replaces; only where there is somebody to watch it.
  func progress(_ text: String) {
    guard !isQuiet, isInteractive else { return }
    FileHandle.standardOutput.write(Data("\r\u{1b}[K  \(text)".utf8))
  }

  private func clearProgress() {
    guard isInteractive else { return }
    FileHandle.standardOutput.write(Data("\r\u{1b}[K".utf8))
  }
}

/// Rows of cells under headings, the first column to the left and the others to the right.
struct Table {
  private var rows: [[String]]

  init(_ headings: String...) {
    rows = [headings]
  }

  mutating func add(_ cells: String...) {
    rows.append(cells)
  }

  var text: String {
    let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    let lines = rows.map { row in
      zip(row, widths).enumerated().map { index, cell in
        let padding = String(repeating: " ", count: cell.1 - cell.0.count)
        return index == 0 ? cell.0 + padding : padding + cell.0
      }.joined(separator: "  ")
    }
    let rule = widths.map { String(repeating: "-", count: $0) }.joined(separator: "  ")
    return ([lines[0], rule] + lines.dropFirst()).map { "  " + $0 }.joined(separator: "\n")
  }
}
