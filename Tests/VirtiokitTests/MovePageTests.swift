import Foundation
import Testing

@testable import Migration
@testable import virtiokit

@Suite("virtiokit migrate: what is told of a move") struct MovePageTests {
  private func record(passes: Int) -> MoveRecord {
    var report = MigrationReport()
    report.dataPageCount = 512
    report.zeroPageCount = 256
    report.seconds = 1.5
    report.downtimeSeconds = 0.02
    for number in 0..<passes {
      report.passes.append(
        MigrationReport.Pass(
          sentByteCount: 1 << 20, seconds: 0.5, remainingByteCount: 4096, expectedDowntimeSeconds: .infinity,
          share: number == 0 ? 1 : 0.7))
    }
    var record = MoveRecord(
      memory: 1 << 30, resident: 3 << 20, qemu: "7.2.22", machine: "pc-q35-7.2-machine", wasRunning: true)
    record.report = report
    return record
  }

  @Test("the page needs nothing from anywhere, and has a bar for each pass in each plot")
  func page() {
    let html = MovePage(record: record(passes: 3)).html
    for word in ["http", "src=", "<script", "<link", "@import", "url(", "nan"] { #expect(!html.contains(word)) }
    #expect(html.components(separatedBy: "<rect").count - 1 == 3 * 5)
    #expect(html.contains("<td>stood still</td><td>20.0 ms</td>"))
  }

  @Test("a guest that stood still has no plots; one that has not been moved, the reason, as text")
  func others() {
    #expect(!MovePage(record: record(passes: 0)).html.contains("<svg"))
    var failed = record(passes: 0)
    failed.report = nil
    failed.failure = "the peer said \"<no>\""
    let html = MovePage(record: failed).html
    #expect(html.contains("It has not been moved: the peer said &quot;&lt;no&gt;&quot;."))
  }

  @Test("whether a guest gave all that it was asked for is told, with the reason, to people and programs")
  func balloon() throws {
    var record = record(passes: 1)
    record.balloon = .init(
      before: 1 << 30, asked: 1 << 28, after: 1 << 29, residentBefore: 1 << 30, reason: "the guest gave no more pages")
    let json = try #require(JSON(parsing: "\(record.json)")?["balloon"])
    #expect(json["complete"] == .bool(false) && json["reason"]?.text == "the guest gave no more pages")
    #expect(json["asked_bytes"] == .number(1 << 28) && json["after_bytes"] == .number(1 << 29))
    #expect(MovePage(record: record).html.contains("Only in part: its balloon left it 512 MiB, asked for 256 MiB"))
    record.balloon = .init(residentBefore: 1 << 30, reason: "it has no balloon")
    #expect(JSON(parsing: "\(record.json)")?["balloon"]?["after_bytes"] == .null)
    #expect(MovePage(record: record).html.contains("It has not been shrunk: it has no balloon."))
  }

  @Test("a forecast names what would help, and of the balloon whether it would be enough")
  func forecast() {
    func line(_ milliseconds: Int, _ writes: Double) -> String {
      let forecast = MigrationForecast(
        of: 8_000_000_000, writes: WriteRate(seconds: 0.1, first: writes, second: 4 * writes), linkBytesPerSecond: 1e9,
        policy: MigrationPolicy(downtimeLimit: .milliseconds(milliseconds)))
      return MigrationEvent.forecast(forecast).line
    }
    #expect(line(100, 1e6).contains("What would help: --balloon: half of its memory would save"))
    #expect(line(100, 9e7).contains("--balloon, until no more than"))
    #expect(line(10, 1e9).contains("--balloon, though it is not enough: half of its memory would save"))
    let idle = WriteRate(seconds: 0.1, first: 0, second: 0)
    let empty = MigrationForecast(of: 0, writes: idle, linkBytesPerSecond: 1e9, policy: MigrationPolicy())
    #expect(!MigrationEvent.forecast(empty).line.contains("help"))
  }

  @Test("the side that took a guest tells how long it stood still there, and how much of its memory it has back")
  func arrival() throws {
    var arrival = Arrival(wasRunning: true, runs: true, stillSeconds: 0.04)
    #expect(arrival.json(MigrationReport())["downtime_here_seconds"] == .real(0.04))
    #expect(arrival.json(MigrationReport())["balloon"] == .null)
    let growth = Arrival.Growth(asked: 1 << 30, after: 3 << 28, seconds: 5)
    arrival.growth = growth
    let json = try #require(arrival.json(MigrationReport())["balloon"])
    #expect(json["complete"] == .bool(false) && json["after_bytes"] == .number(3 << 28))
    #expect(growth.line == "It has 768 MiB of its 1.00 GiB back after 5.00 s, and takes no more for now.")
  }

  @Test("the object is JSON, with what is no number as null, and counts memory by kind")
  func json() throws {
    let json = try #require(JSON(parsing: "\(record(passes: 2).json)"))
    #expect(json["moved"] == .bool(true) && json["error"] == .null)
    let move = try #require(json["move"])
    #expect(move["bytes"]?["data"] == .number(2 << 20) && move["bytes"]?["zero"] == .number(1 << 20))
    #expect(move["passes"]?.array?.first?["expected_downtime_seconds"] == .null)
    #expect(move["least_share"] == .real(0.7))
  }
}
