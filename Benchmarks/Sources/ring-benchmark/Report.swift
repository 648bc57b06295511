import Foundation

/// The results of all works and shapes, beside their floors.
struct Report: Encodable {
  struct Row: Encodable {
    let work: String
    let shape: String
    let contender: String
    let nanosecondsPerChain: Double
    let ratioToBareFloor: Double
    let ratioToCheckingFloor: Double
    let allocationsPerChain: Double
  }

  let rows: [Row]

  init(_ results: [(Work, Shape, [Measurement])]) {
    rows = results.flatMap { work, shape, measurements in
      measurements.map { measurement in
        Row(
          work: work.rawValue, shape: shape.name, contender: measurement.name,
          nanosecondsPerChain: measurement.nanoseconds,
          ratioToBareFloor: measurement.nanoseconds / measurements[0].nanoseconds,
          ratioToCheckingFloor: measurement.nanoseconds / measurements[1].nanoseconds,
          allocationsPerChain: Double(measurement.allocationCount) / Double(measurement.chainCount))
      }
    }
  }

  var tables: String {
    Work.allCases.map { work in
      work.title + "\n\n" + table(rows.filter { $0.work == work.rawValue })
    }.joined(separator: "\n\n")
  }

  private func table(_ rows: [Row]) -> String {
    let header = ["descriptors", "served by", "ns/chain", "x bare", "x checking", "allocs/chain"]
    let lines =
      [header]
      + rows.map { row in
        [
          row.shape, row.contender, text(row.nanosecondsPerChain, 1), text(row.ratioToBareFloor, 2),
          text(row.ratioToCheckingFloor, 2), text(row.allocationsPerChain, 3),
        ]
      }
    let widths = header.indices.map { column in lines.map { $0[column].count }.max() ?? 0 }
    return lines.map { line in
      line.enumerated().map { column, cell in
        let space = String(repeating: " ", count: widths[column] - cell.count)
        return column < 2 ? cell + space : space + cell
      }.joined(separator: "  ")
    }.joined(separator: "\n")
  }

  func json() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
    return String(decoding: try encoder.encode(rows), as: UTF8.self)
  }

  private func text(_ number: Double, _ digits: Int) -> String {
    String(format: "%.\(digits)f", number)
  }
}
