import DeviceState
import Foundation
import GuestRAM
import Support
import Testing
import VirtioCore

/// Golden snapshots of every device in many moments, with the guest's memory that their rings need.
///
/// `VIRTIOKIT_FIXTURES=write` writes those that are missing; one that is there is never written over.
@Suite("State fixtures") struct FixtureTests {
  private static let made = Moment.all.filter { $0.take != nil }
  private static let writes = ProcessInfo.processInfo.environment["VIRTIOKIT_FIXTURES"] == "write"

  @Test("a device that comes to a moment is saved as it was in the release that made the fixture", arguments: made)
  func written(moment: Moment) throws {
    let snapshot = try #require(try moment.take?())
    let bytes = snapshot.encoded()
    if Self.writes, !FileManager.default.fileExists(atPath: moment.file.path) {
      try Data(bytes).write(to: moment.file)
    }
    let golden = try moment.bytes
    let differences = StateDocument(surveying: golden).differences(to: StateDocument(surveying: bytes))
    // Said by the fields that differ: two lists of thousands of bytes tell nobody anything.
    let isSame = bytes == golden
    #expect(isSame, "\(differences.map { "\($0.section).\($0.field)" })")
  }

  @Test("a driver goes on from every moment as if nothing had been", arguments: Moment.all)
  func goingOn(moment: Moment) throws {
    guard moment.take != nil || FileManager.default.fileExists(atPath: moment.file.path) else { return }
    try moment.goOn(Snapshot(decoding: moment.bytes))
  }

  @Test("every fixture is that of a moment, and all together are below 300 KiB")
  func inventory() throws {
    let names = Set(Moment.all.map { "\($0.name).state" })
    #expect(try Set(Moment.files.map(\.lastPathComponent)).isSubset(of: names))
    let sizes = try Moment.files.map { try Data(contentsOf: $0).count }
    #expect(sizes.reduce(0, +) < 300 << 10)
  }

  @Test("the state of one device takes less than 4 KiB", arguments: Moment.all)
  func size(moment: Moment) throws {
    guard let bytes = try? moment.bytes else { return }
    let sections = try Snapshot(decoding: bytes).sections.filter { $0.name != MemoryImage.section }
    #expect(sections.reduce(0) { $0 + $1.payload.count } < 4096)
  }

  @Test("text, bytes and what a tool reads say the same of every fixture", arguments: Moment.all)
  func forms(moment: Moment) throws {
    guard let bytes = try? moment.bytes else { return }
    let snapshot = try Snapshot(decoding: bytes)
    #expect(try Snapshot(json: snapshot.indentedJSON).encoded() == bytes)
    #expect(snapshot.encoded() == bytes)
    let document = StateDocument(surveying: bytes)
    #expect(document.problems == [])
    #expect(document.spans.reduce(0) { $0 + $1.byteCount } == bytes.count, "every byte has a meaning")
    #expect(document.differences(to: document) == [])
    #expect(document.json == snapshot.json)
  }

  @Test(
    "any byte flipped, cut or added in any fixture is an error, and a tool still reads the rest", arguments: Moment.all)
  func damage(moment: Moment) throws {
    guard let bytes = try? moment.bytes else { return }
    var generator = SeededGenerator(for: "State fixtures: damage to \(moment.name)")
    for place in bytes.indices {
      for kind in [0, 1 + place % 3] {
        var damaged = bytes
        switch kind {
        case 0: damaged[place] ^= UInt8.random(in: 1...255, using: &generator)
        case 1: damaged.remove(at: place)
        case 2: damaged.insert(.random(in: .min ... .max, using: &generator), at: place)
        default: damaged.removeSubrange(place...)
        }
        guard damaged != bytes else { continue }
        if (try? Snapshot(decoding: damaged)) != nil { Issue.record("kind \(kind) at byte \(place) went unnoticed") }
        // It looks for what is whole behind the damage, which takes longer.
        guard generator.once(in: 64) else { continue }
        #expect(!StateDocument(surveying: damaged).problems.isEmpty, "kind \(kind) at byte \(place)")
      }
    }
  }

  @Test(
    "a fixture damaged by somebody who makes the checksums right is refused whole, or is another state", arguments: made
  )
  func forgery(moment: Moment) throws {
    var generator = SeededGenerator(for: "State fixtures: forgery of \(moment.name)")
    let whole = try Snapshot(decoding: moment.bytes)
    for (number, section) in whole.sections.enumerated() {
      for place in section.payload.indices where section.payload.count < 2048 || generator.once(in: 8) {
        var payload = section.payload
        payload[place] ^= UInt8.random(in: 1...255, using: &generator)
        var forged = Snapshot(producer: whole.producer)
        for (other, original) in whole.sections.enumerated() {
          try forged.add(
            other != number
              ? original
              : SnapshotSection(
                name: section.name, version: section.version, isOptional: section.isOptional, payload: payload))
        }
        do { try moment.restore(forged) } catch { #expect(!"\(error)".isEmpty) }
      }
    }
  }
}
