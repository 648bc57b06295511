import Foundation
import ReportPage
import Testing

@testable import balloon_demo

@Suite("Demo page") struct DemoPageTests {
  private func report(passes: Int) throws -> DemoReport {
    let pass = #"{"sent_bytes": 1048576, "seconds": 0.5, "remaining_bytes": 4096, "share": 1}"#
    let move = """
      {"name": "as it is", "bytes": 1048576, "seconds": 1.5, "downtime_seconds": 0.012, "passes": \(passes), "steps": 75,
       "pages_checked": 256, "skipped_bytes": 8192, "handed_over_bytes": 0, "total_seconds": 1.5, "work_share": 0.5, "resident_bytes": 1048576, "pass_list": [\(Array(repeating: pass, count: passes).joined(separator: ","))],
       "progress": [{"seconds": 0.1, "steps_per_second": 90}, {"seconds": 0.2, "steps_per_second": 0}]}
      """
    var report = DemoReport(guest: "simulated", memoryBytes: 1 << 30, targetBytes: 512 << 20)
    report.moves = [try JSONDecoder().decode(MoveView.self, from: Data(move.utf8))]
    return report
  }

  @Test("the page needs nothing from anywhere")
  func selfContained() throws {
    let html = DemoPage(report: try report(passes: 3)).html
    for word in ["http", "src=", "<script", "<link", "@import", "url("] { #expect(!html.contains(word)) }
    #expect(html.hasPrefix("<!DOCTYPE html>"))
  }

  @Test("each pass is a bar in two plots, each move a row and a bar in three")
  func marks() throws {
    let html = DemoPage(report: try report(passes: 3)).html
    #expect(html.components(separatedBy: "<rect").count - 1 == 9)
    #expect(html.components(separatedBy: "<polyline").count - 1 == 1)
    let cells = [
      "as it is", "1.00 MiB", "1.00 GiB", "1.00 MiB", "8.00 KiB", "", "1.50 s", "1.50 s", "12 ms", "3", "50 %", "256",
    ]
    #expect(html.contains(cells.map { "<td>\($0)</td>" }.joined()))
  }

  @Test("a move of a guest that stood still has no plots, and says so")
  func stoodStill() throws {
    let html = DemoPage(report: try report(passes: 0)).html
    #expect(html.contains("The guest stood still.") && !html.contains("<polyline"))
  }

  @Test("a plot of nothing, or of nothing but zeros, has no numbers that are none")
  func empty() {
    for points in [[], [(x: 0.0, y: 0.0)], [(x: 0, y: 0), (x: 0, y: 0)]] {
      for style in [Plot.Style.bars, .line] {
        let svg = Plot(title: "t", axes: ("x", "y"), style: style, points: points).svg
        #expect(!svg.contains("nan") && !svg.contains("inf"))
      }
    }
  }
}
