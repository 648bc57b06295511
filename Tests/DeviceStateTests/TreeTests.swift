import DeviceState
import Foundation
import Testing

@Suite("DeviceState: snapshots of an unknown producer")
struct TreeTests {
  @Test("a tree gives back the bytes it was read from", arguments: [EveryKindState(), .full])
  func bytes(state: EveryKindState) throws {
    let payload = try state.encoded()
    #expect(try StateTree(decoding: payload).payload() == payload)
  }

  @Test("JSON carries names, types and exact values")
  func json() throws {
    #expect(
      try StateTree(decoding: LampState.second.encoded()).json == """
        {"phase: u8": 9, "watts: u32": 16909060, "key: bytes": "dead", "orders: [record]": \
        [{"head: u16": 7, "urgent: bool": true}, {"head: u16": 65535, "urgent: bool": false}], \
        "deadline: u64?": "1099511627776", "trim: i32": -2147483648}
        """)
  }

  @Test("text has a line for each field and element")
  func text() throws {
    #expect(
      try StateTree(decoding: LampState.second.encoded()).text == """
        phase: u8 = 9
        watts: u32 = 16909060
        key: bytes = dead
        orders: [record]
          [0]
            head: u16 = 7
            urgent: bool = true
          [1]
            head: u16 = 65535
            urgent: bool = false
        deadline: u64? = 1099511627776
        trim: i32 = -2147483648

        """)
  }

  @Test("a description goes on after a section that it cannot read")
  func description() throws {
    var snapshot = Snapshot(producer: "else\u{1B}where", producerVersion: "3")
    try snapshot.add(SnapshotSection(name: "odd", version: 7, isOptional: true, payload: [1, 0x61, 99]))
    try snapshot.add(SnapshotSection(name: "even", instance: "x", version: 1, payload: [1, 0x61, 2, 5]))
    #expect(
      snapshot.describe() == """
        snapshot by else\\u001bwhere 3
        odd: version 7, 3 bytes, optional
          cannot be read: section odd, field a, byte 2: type tag 99 is unknown
        even/x: version 1, 4 bytes
          a: u8 = 5

        """)
  }

  @Test("a snapshot's JSON is JSON, with the bytes of a section that cannot be read")
  func snapshotJSON() throws {
    var snapshot = Snapshot(producer: "a \"quoted\" \u{2028}\u{E0001} name")
    try snapshot.add(EveryKindState.full, optional: true)
    try snapshot.add(SnapshotSection(name: "odd", version: 7, payload: [1, 0x61, 99]))
    let json = try JSONSerialization.jsonObject(with: Data(snapshot.json.utf8)) as? [String: Any]
    #expect(json?["producer"] as? String == snapshot.producer)
    let sections = try #require(json?["sections"] as? [[String: Any]])
    let fields = try #require(sections[0]["fields"] as? [String: Any])
    #expect(fields["text: string"] as? String == EveryKindState.full.text)
    #expect(fields["u64: u64"] as? String == "18446744073709551615")
    #expect(sections[0]["optional"] as? Bool == true)
    #expect(sections[1]["payload"] as? String == "016163")
    #expect(sections[1]["error"] as? String == "section odd, field a, byte 2: type tag 99 is unknown")
  }

  @Test("two fields of one name are refused")
  func duplicates() {
    let field = Wire.field("a", Wire.u8, [1])
    #expect(throws: StateError.duplicateField(StatePlace(section: "", field: "a", offset: 6))) {
      try StateTree(decoding: field + field)
    }
  }

  @Test("a value that is not of the type beside it is not written")
  func misfit() {
    let place = StatePlace(section: "", field: "a", offset: 3)
    for value in [StateTree.unsigned(256), .bool(true), .optional(nil)] {
      let tree = StateTree.record([StateTree.Field(name: "a", type: .u8, value: value)])
      #expect(throws: StateError.valueDoesNotFit(place, type: .u8)) { try tree.payload() }
    }
  }
}
