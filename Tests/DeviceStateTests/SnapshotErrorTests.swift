import DeviceState
import Testing

@Suite("DeviceState: snapshots that lie")
struct SnapshotErrorTests {
  let lamp = Wire.section("lamp", version: 1, [])

  func place(_ field: String, _ offset: Int, section: String = "") -> StatePlace {
    StatePlace(section: section, field: field, offset: offset)
  }

  @Test("bytes of something else are no snapshot")
  func magic() {
    #expect(throws: StateError.notASnapshot) { try Snapshot(decoding: Array("QEVM\u{0}\u{0}\u{0}\u{3}.....".utf8)) }
    #expect(throws: StateError.truncated(place("header", 0), missing: 1)) { try Snapshot(decoding: []) }
  }

  @Test("two sections of one name and instance are refused, in a file and when added")
  func duplicates() throws {
    #expect(throws: StateError.duplicateSection(section: "lamp")) {
      try Snapshot(decoding: Wire.snapshot(sections: [lamp, lamp]))
    }
    var snapshot = Snapshot()
    try snapshot.add(LampState(), instance: "a")
    #expect(throws: StateError.duplicateSection(section: "lamp/a")) { try snapshot.add(LampState(), instance: "a") }
  }

  @Test("bytes after the checksum are refused")
  func trailing() {
    let bytes = Wire.snapshot(sections: [lamp])
    #expect(throws: StateError.trailingBytes(place("", bytes.count), byteCount: 1)) {
      try Snapshot(decoding: bytes + [0])
    }
  }

  @Test("a flag that this format does not know is refused")
  func flags() {
    #expect(throws: StateError.unknownFlags(place("", 28), flags: 2)) {
      try Snapshot(decoding: Wire.snapshot(sections: [Wire.section("lamp", flags: 2, [])]))
    }
  }

  @Test("a section needs a name")
  func name() {
    #expect(throws: StateError.invalidName(name: "")) {
      try Snapshot(decoding: Wire.snapshot(sections: [Wire.section("", [])]))
    }
    let long = String(repeating: "x", count: 256)
    #expect(throws: StateError.invalidName(name: long)) {
      var snapshot = Snapshot()
      try snapshot.add(LampState(), instance: long)
    }
  }

  @Test("more sections than the limit are refused before any is read")
  func count() {
    var bytes = Wire.snapshot(sections: [])
    bytes.replaceSubrange(12..<16, with: Wire.u32(.max))
    let limit = StateLimits.sectionCount
    #expect(throws: StateError.countBeyondLimit(place("header", 12), count: 4_294_967_295, limit: limit)) {
      try Snapshot(decoding: bytes)
    }
  }

  @Test("a payload that is longer than the file or than the limit is refused")
  func payload() {
    let cut = Array(Wire.section("lamp", [1, 2, 3]).dropLast(3))
    let payload = 26 + cut.count
    #expect(throws: StateError.lengthBeyondEnd(place("", payload, section: "lamp"), byteCount: 3, available: 0)) {
      try Snapshot(decoding: Array(Wire.snapshot(sections: [cut]).dropLast(4)))
    }
    var huge = cut
    huge.replaceSubrange(8..<12, with: Wire.u32(.max))
    let limit = StateLimits.payloadByteCount
    #expect(
      throws: StateError.countBeyondLimit(place("", payload, section: "lamp"), count: 4_294_967_295, limit: limit)
    ) {
      try Snapshot(decoding: Wire.snapshot(sections: [huge]))
    }
  }

  @Test("the section's checksum and the snapshot's are told apart")
  func checksums() {
    var section = Wire.section("lamp", [1, 2, 3])
    section[section.count - 1] ^= 1
    #expect {
      try Snapshot(decoding: Wire.snapshot(sections: [section]))
    } throws: {
      guard case .checksumMismatch("lamp", _, _) = $0 as? StateError else { return false }
      return true
    }
    var bytes = Wire.snapshot(sections: [lamp])
    bytes[17] = UInt8(ascii: "T")
    #expect {
      try Snapshot(decoding: bytes)
    } throws: {
      guard case .checksumMismatch("", _, _) = $0 as? StateError else { return false }
      return true
    }
  }

  @Test("an error in a field is placed by its byte in the snapshot")
  func offset() throws {
    let section = Wire.section("lamp", version: 1, Wire.field("phase", Wire.u8, [2]))
    let bytes = Wire.snapshot(sections: [section])
    let snapshot = try Snapshot(decoding: bytes)
    let wrong = bytes.count - 4 - 1
    let error = StateError.unknownRawValue(place("phase", wrong, section: "lamp"), value: "2", type: "Phase")
    #expect(throws: error) { try snapshot.read(LampState.self) }
  }
}
