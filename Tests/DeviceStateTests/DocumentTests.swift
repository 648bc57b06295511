import DeviceState
import Testing

@Suite("DeviceState: what a tool reads") struct DocumentTests {
  private static func bytes() throws -> [UInt8] { try GoldenTests.snapshot(.second, version: 2) }

  /// Two sections, so that damage in one shows whether the other is still read.
  private static func pair() throws -> [UInt8] {
    var snapshot = Snapshot(producer: "tests", producerVersion: "1")
    try snapshot.add(LampState.second, instance: "0")
    try snapshot.add(LampState.second, instance: "1", version: 2)
    return snapshot.encoded()
  }

  @Test("a whole snapshot is read whole: no problems, every byte with a meaning, the same text as its own")
  func whole() throws {
    let bytes = try Self.bytes()
    let document = StateDocument(surveying: bytes)
    #expect(document.problems == [])
    #expect(document.spans.reduce(0) { $0 + $1.byteCount } == bytes.count)
    #expect(document.json == (try Snapshot(decoding: bytes).json))
    #expect(document.sections.map(\.isWhole) == [true])
  }

  @Test("every field, of every kind, is read as the strict reader reads it")
  func everyKind() throws {
    var snapshot = Snapshot()
    try snapshot.add(EveryKindState.full)
    let document = StateDocument(surveying: snapshot.encoded())
    #expect(document.problems == [])
    #expect(.record(document.sections[0].fields) == (try StateTree(decoding: snapshot.sections[0].payload)))
  }

  @Test("a newer format is read as far as it is alike, and is named")
  func newerFormat() {
    let section = Wire.section("new", Wire.field("a", Wire.u8, [7]))
    let document = StateDocument(surveying: Wire.snapshot(format: 2, addition: [1, 2, 3], sections: [section]))
    #expect(document.sections.map(\.label) == ["new"])
    #expect(document.sections[0]["a"] == .unsigned(7))
    #expect(document.problems.count == 1 && document.problems[0].contains("format 2"))
  }

  @Test("a section behind a damaged one is found")
  func behindDamage() throws {
    let bytes = try Self.pair()
    let second = try #require(StateDocument(surveying: bytes).spans.last { $0.meaning == "section lamp/1" }).offset
    // The length of the first payload, a byte inside it, its header's own length.
    for place in [38, 60, 27, second - 40] {
      var damaged = bytes
      damaged[place] ^= 0x55
      let document = StateDocument(surveying: damaged)
      #expect(document.sections.contains { $0.label == "lamp/1" && $0.isWhole }, "byte \(place)")
      #expect(!document.problems.isEmpty)
    }
  }

  @Test("fields before the end of a cut snapshot are read, and the place of the cut is told")
  func cut() throws {
    let bytes = try Self.bytes()
    let document = StateDocument(surveying: Array(bytes[..<0x90]))
    #expect(document.sections[0]["phase"] == .unsigned(9))
    #expect(document.sections[0]["watts"] == .unsigned(0x0102_0304))
    #expect(document.problems.contains { $0.contains("byte 38") })
    #expect(document.sections[0].isWhole == false)
  }

  @Test(
    "what is no snapshot is one problem and nothing else", arguments: [[], [1, 2, 3], Array("{}".utf8)] as [[UInt8]])
  func noSnapshot(bytes: [UInt8]) {
    let document = StateDocument(surveying: bytes)
    #expect(document.sections.isEmpty && document.problems.count == 1)
  }

  @Test("a hexdump has every byte once, beside its field")
  func hexdump() throws {
    let bytes = try Self.bytes()
    let dump = StateDocument(surveying: bytes).hexdump(of: bytes)
    let digits = dump.split(separator: "\n").flatMap { line in
      Wire.parse(hex: line.dropFirst(10).prefix(47))
    }
    #expect(digits == bytes)
    #expect(dump.contains("orders[1].head = 65535"))
    #expect(StateDocument(surveying: [1, 2]).hexdump(of: [1, 2]).contains("01 02"))
    #expect(StateDocument(surveying: bytes).hexdump(of: bytes + [9]).hasSuffix("??\n"))
  }

  @Test("records are compared by what names them, not by place")
  func differences() throws {
    func document(_ orders: [(UInt16, Bool)]) throws -> StateDocument {
      var state = LampState.second
      state.orders = orders.map { head, urgent in
        var order = LampState.second.orders[0]
        order.head = head
        order.urgent = urgent
        return order
      }
      return StateDocument(surveying: try GoldenTests.snapshot(state, version: 2))
    }
    let old = try document([(1, false), (2, false), (3, true)])
    #expect(old.differences(to: old) == [])
    #expect(try old.differences(to: document([(3, true), (2, false), (1, false)])) == [])
    let found = try old.differences(to: document([(2, true), (3, true), (4, true)]))
    #expect(found.map(\.field) == ["orders[head=1]", "orders[head=2].urgent", "orders[head=4]"])
    #expect(found[1].old == .bool(false) && found[1].new == .bool(true))
    #expect(found[0].new == nil && found[2].old == nil)
  }

  @Test("a field is set by its path, and a value that does not fit is refused by type")
  func setting() throws {
    let tree = try StateTree(decoding: LampState.second.encoded())
    let first = try #require(tree[path: "orders[0].head"])
    #expect(try tree.setting("watts", to: "0x10")[path: "watts"] == .unsigned(16))
    #expect(try tree.setting("orders[0].urgent", to: "true")[path: "orders[0].urgent"] == .bool(true))
    #expect(try tree.setting("orders[head=\(first.summary)].head", to: "5")[path: "orders[0].head"] == .unsigned(5))
    #expect(try tree.setting("deadline", to: "null")[path: "deadline"] == .optional(nil))
    #expect(try tree.setting("deadline", to: "9")[path: "deadline"] == .optional(.unsigned(9)))
    #expect(try tree.setting("key", to: "0102")[path: "key"] == .bytes([1, 2]))
    #expect(throws: StateError.noSuchField("volts")) { try tree.setting("volts", to: "1") }
    #expect(throws: StateError.noSuchField("orders[9].head")) { try tree.setting("orders[9].head", to: "1") }
    #expect(throws: StateError.unreadableValue(field: "phase", text: "256", type: .u8)) {
      try tree.setting("phase", to: "256")
    }
    #expect(throws: StateError.unreadableValue(field: "key", text: "xyz", type: .bytes)) {
      try tree.setting("key", to: "xyz")
    }
  }
}

@Suite("DeviceState: JSON") struct JSONTests {
  @Test("text that was written is read as the same bytes, of every kind of value")
  func roundTrip() throws {
    var snapshot = Snapshot(producer: "a \"quoted\"\u{1} \u{1F600}", producerVersion: "\u{200B}")
    try snapshot.add(EveryKindState.full)
    try snapshot.add(LampState.second, optional: true, instance: "x/y")
    try snapshot.add(SnapshotSection(name: "opaque", version: 3, payload: [1, 2, 3]))
    #expect(try Snapshot(json: snapshot.json).encoded() == snapshot.encoded())
    #expect(try Snapshot(json: snapshot.indentedJSON).encoded() == snapshot.encoded())
  }

  @Test(
    "what is no JSON of a snapshot is refused with its line or path",
    arguments: [
      ("", "line 1"), ("{", "line 1"), ("{\n\"a\": 1,}", "line 2"), ("[1]", "is no object"), ("{\"a\": 1}", "a:"),
      ("{\"producer\": 7, \"producerVersion\": \"\", \"sections\": []}", "producer:"),
      ("{\"producer\": \"\", \"producerVersion\": \"\"}", "sections:"), ("{\"a\": 1, \"a\": 2}", "twice"),
      (String(repeating: "[", count: 100_000), "nested"), ("\"\\ud800\"", "escaped"), ("nul", "nul"),
      ("{\"producer\": \"\", \"producerVersion\": \"\", \"sections\": [{\"name\": \"x\"}]}", "sections[0]"),
    ])
  func refused(text: String, sign: String) throws {
    let error = try #require(throws: StateError.self) { try Snapshot(json: text) }
    #expect("\(error)".contains(sign), "\(error)")
  }

  @Test("a value that is not of the type beside it is refused by its path")
  func misfit() throws {
    let text = try Snapshot(decoding: GoldenTests.snapshot(.second, version: 2)).json
    for (old, new) in [("\"phase: u8\": 9", "\"phase: u8\": 256"), ("\"phase: u8\": 9", "\"phase: u8\": -1")] {
      let changed = text.split(separator: old, omittingEmptySubsequences: false).joined(separator: new)
      let error = try #require(throws: StateError.self) { try Snapshot(json: changed) }
      #expect("\(error)".contains("phase"), "\(error)")
    }
  }
}
