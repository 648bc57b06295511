import Balloon
import DeviceState
import Foundation
import SimulatedGuest
import Testing
import VirtioBlk
import VirtioNet

@testable import VirtioCore

@Suite("Guest: state format document") struct StateDocumentTests {
  @Test("docs/state-format.md shows the schema of every section, as it is, and of no other")
  func schemas() throws {
    let path = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../docs/state-format.md")
    let document = try String(contentsOf: path.standardizedFileURL, encoding: .utf8)
    let start = try #require(document.range(of: "## The sections\n")).upperBound
    let end = try #require(document.range(of: "\n## ", range: start..<document.endIndex)).lowerBound
    let parts = document[start..<end].components(separatedBy: "```\n")
    let shown = parts.indices.filter { $0 % 2 == 1 }.map { parts[$0] }
    let schemas = [
      try Schema.text(of: BalloonState.self), try Schema.text(of: HostState<BalloonState>.self),
      try Schema.text(of: BlockState.self), try Schema.text(of: NetState.self), try Schema.text(of: GuestState.self),
      try Schema.text(of: MemoryImage.self),
    ]
    for (index, schema) in schemas.enumerated() {
      #expect(shown.indices.contains(index) && shown[index] == schema, "the schema is now:\n\(schema)")
    }
    #expect(shown.count == schemas.count)
  }
}
