import DeviceState
import Testing

@Suite("DeviceState: files made to cost much") struct HostileDocumentTests {
  /// A field that is an array of so many bools.
  private static func bools(_ name: String, _ count: Int) -> [UInt8] {
    let values = [UInt8](repeating: 1, count: count)
    return Wire.field(name, Wire.array + Wire.bool, Wire.delimited(Wire.u32(UInt32(count)) + values))
  }

  private static func manyValues() -> [UInt8] {
    let section = Wire.section("many", (0..<20).flatMap { bools("f\($0)", StateLimits.elementCount) })
    return Wire.snapshot(sections: [section])
  }

  @Test("a file of more values than any device has is shown up to a bound, which is told")
  func values() throws {
    let document = StateDocument(surveying: Self.manyValues())
    #expect(document.problems.contains { $0.contains("above the limit \(StateLimits.valueCount)") })
    #expect(document.sections[0].fields.count <= StateLimits.valueCount / StateLimits.elementCount)
    #expect(document.sections[0].isWhole == false)
  }

  @Test("as JSON such a section is its bytes, and there and back it is the same file")
  func valuesAsJSON() throws {
    let snapshot = try Snapshot(decoding: Self.manyValues())
    #expect(snapshot.json.contains("\"payload\": "))
    #expect(try Snapshot(json: snapshot.json).encoded() == snapshot.encoded())
  }

  @Test("no more sections are read than a snapshot can have")
  func sections() {
    let sections = (0...StateLimits.sectionCount).map { Wire.section("s\($0)", []) }
    let document = StateDocument(surveying: Wire.snapshot(sections: sections))
    #expect(document.sections.count == StateLimits.sectionCount)
    #expect(document.problems.contains { $0.contains("more than \(StateLimits.sectionCount) sections") })
  }

  @Test("many damaged sections before much that is none are looked behind once", .timeLimit(.minutes(1)))
  func searches() {
    let damaged = (0..<250).map { number in
      var section = Wire.section("s\(number)", [1])
      section[12] ^= 1
      return section
    }
    let last = Wire.section("last", [])
    for end in [[], last] {
      let filling = [UInt8](repeating: 0, count: 1 << 20)
      let document = StateDocument(surveying: Wire.snapshot(sections: damaged + [filling, end]))
      #expect(document.sections.count == damaged.count + (end.isEmpty ? 0 : 1))
    }
  }

  @Test("what stands beside bytes does not grow with the length of names")
  func meanings() {
    let name = String(repeating: "n", count: 255)
    var fields = Self.bools(name, StateLimits.elementCount)
    for _ in 0..<12 { fields = Wire.field(name, Wire.record, Wire.delimited(fields)) }
    let document = StateDocument(surveying: Wire.snapshot(sections: [Wire.section("deep", fields)]))
    #expect(document.problems == [])
    #expect(document.spans.reduce(0) { $0 + $1.meaning.utf8.count } < 128 << 20)
  }

  @Test("two files of many fields and records are compared in one go through each")
  func comparison() {
    let fields = (0..<20_000).flatMap { Wire.field("f\($0)", Wire.u8, [0]) }
    let one = StateDocument(surveying: Wire.snapshot(sections: [Wire.section("s", fields)]))
    let reversed = (0..<20_000).reversed().flatMap { Wire.field("f\($0)", Wire.u8, [0]) }
    let other = StateDocument(surveying: Wire.snapshot(sections: [Wire.section("s", reversed)]))
    #expect(one.sections[0].fields.count == 20_000)
    #expect(one.differences(to: other) == [])
  }

  @Test("a text that nests deeper than a state, or names a field twice, is refused")
  func text() throws {
    func text(_ fields: String) -> String {
      """
      {"producer": "", "producerVersion": "", "sections": [
      {"name": "a", "instance": "", "version": 1, "optional": false, "fields": \(fields)}]}
      """
    }
    #expect(throws: Never.self) { try Snapshot(json: text(#"{"a: u8": 1, "b: u8": 2}"#)) }
    #expect(throws: StateError.self) { try Snapshot(json: text(#"{"a: u8": 1, "a: u16": 2}"#)) }
    let deep = String(repeating: #"{"a: record": "#, count: 20) + "{}" + String(repeating: "}", count: 20)
    #expect(throws: StateError.self) { try Snapshot(json: text(deep)) }
    for number in ["+1", "01", "-0", "1e3", "1.0", "0x1"] {
      #expect(throws: StateError.self, "\(number)") { try Snapshot(json: text("{\"a: u8\": \(number)}")) }
    }
  }
}
