import DeviceState
import Testing

@Suite("DeviceState: versions")
struct VersionTests {
  @Test("an older section gets the else: value of every newer field")
  func older() throws {
    let payload = try LampState.first.encoded(as: 1)
    var expected = LampState.first
    expected.deadline = nil
    expected.trim = -1
    #expect(try LampState(decoding: payload, version: 1) == expected)
  }

  @Test("writing an older version is refused by name when it would lose a value")
  func lossyDowngrade() {
    #expect(throws: StateError.fieldNewerThanVersion(section: "lamp", field: "deadline", since: 2, version: 1)) {
      try LampState.second.encoded(as: 1)
    }
    var state = LampState.first
    state.trim = 0
    #expect(throws: StateError.fieldNewerThanVersion(section: "lamp", field: "trim", since: 2, version: 1)) {
      try state.encoded(as: 1)
    }
  }

  @Test("a record inside a state counts the versions of its section, and is named by its path")
  func nested() throws {
    var state = CableState(wires: [CableState.Wire(gauge: 1, colour: 0), CableState.Wire(gauge: 2, colour: 0)])
    #expect(try CableState(decoding: state.encoded(as: 1), version: 1) == state)
    state.wires[1].colour = 5
    #expect(try CableState(decoding: state.encoded()) == state)
    #expect(throws: StateError.fieldNewerThanVersion(section: "cable", field: "wires[1].colour", since: 2, version: 1))
    {
      try state.encoded(as: 1)
    }
  }

  @Test("a section newer than the code is refused with both versions")
  func newerSection() throws {
    let section = Wire.section("lamp", version: 3, [])
    let snapshot = try Snapshot(decoding: Wire.snapshot(sections: [section]))
    let error = StateError.unsupportedSectionVersion(section: "lamp", version: 3, newest: 2)
    #expect(throws: error) { try snapshot.read(LampState.self) }
    #expect("\(error)" == "section lamp has version 3; this code reads versions 1 to 2")
  }

  @Test("a version below 1 or above the newest is neither read nor written", arguments: [-1, 0, 3])
  func noSuchVersion(version: Int) {
    let error = StateError.unsupportedSectionVersion(section: "lamp", version: version, newest: 2)
    #expect(throws: error) { try LampState.first.encoded(as: version) }
    #expect(throws: error) { try LampState(decoding: [], version: version) }
  }

  @Test("a format newer than the code is refused by name, whatever follows its header", arguments: [0, 2, 65535])
  func newerFormat(format: UInt16) throws {
    let bytes = Wire.snapshot(format: format, addition: [1, 2, 3], sections: [[0xFF, 0xFF, 0xFF]])
    let error = StateError.unsupportedFormat(version: Int(format), newest: 1, producer: "tests 9.1")
    #expect(throws: error) { try Snapshot(decoding: bytes) }
    #expect("\(error)" == "the snapshot of tests 9.1 has format \(format); this code reads formats 1 to 1")
    let header = try SnapshotHeader(decoding: bytes)
    #expect(header.formatVersion == Int(format))
    #expect(header.producer == "tests")
    #expect(header.sectionCount == 1)
  }

  @Test("a header longer than its format says is refused")
  func longerHeader() {
    let bytes = Wire.snapshot(addition: [1, 2, 3], sections: [])
    #expect(throws: StateError.trailingBytes(StatePlace(section: "", field: "header", offset: 26), byteCount: 3)) {
      try Snapshot(decoding: bytes)
    }
  }

  @Test("sections that nobody took are named, unless they are optional")
  func leftOver() throws {
    var snapshot = Snapshot()
    try snapshot.add(LampState.first, instance: "a")
    try snapshot.add(LampState.first, instance: "b")
    try snapshot.add(EveryKindState.full, optional: true)
    #expect(throws: StateError.unknownSections(["lamp/a", "lamp/b"])) { try snapshot.checkAllTaken() }
    #expect(try snapshot.take(LampState.self, instance: "a") == .first)
    #expect(throws: StateError.unknownSections(["lamp/b"])) { try snapshot.checkAllTaken() }
    #expect(throws: StateError.missingSection(section: "lamp/a")) { try snapshot.take(LampState.self, instance: "a") }
    _ = try snapshot.take(LampState.self, instance: "b")
    try snapshot.checkAllTaken()
    #expect(snapshot.contains(EveryKindState.self))
  }
}

private struct CableState: SavedState {
  static let section = "cable"
  static let version = 2

  struct Wire: StateRecord {
    var gauge: UInt8 = 0
    var colour: UInt16 = 0

    mutating func code(with coder: inout some StateCoder) throws(StateError) {
      try coder.field("gauge", &gauge)
      try coder.field("colour", &colour, since: 2, else: 0)
    }
  }

  var wires: [Wire] = []

  mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("wires", &wires)
  }
}
