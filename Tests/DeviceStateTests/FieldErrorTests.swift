import DeviceState
import Testing

/// Payloads of `LampState` version 1 put together by hand, each wrong in one way.
@Suite("DeviceState: fields that lie")
struct FieldErrorTests {
  let phase = Wire.field("phase", Wire.u8, [1])
  let watts = Wire.field("watts", Wire.u32, Wire.u32(60))
  let key = Wire.field("key", Wire.bytes, Wire.delimited([1, 2]))
  let orders = Wire.field("orders", Wire.array + Wire.record, Wire.delimited(Wire.u32(0)))

  func decode(_ fields: [UInt8]...) throws(StateError) -> LampState {
    try LampState(decoding: Array(fields.joined()), version: 1)
  }

  func place(_ field: String, _ offset: Int) -> StatePlace {
    StatePlace(section: "lamp", field: field, offset: offset)
  }

  func orders(count: UInt32, _ content: [UInt8]) -> [UInt8] {
    Wire.field("orders", Wire.array + Wire.record, Wire.delimited(Wire.u32(count) + content))
  }

  @Test("the payload that the following ones spoil is sound")
  func sound() throws {
    #expect(try decode(phase, watts, key, orders).watts == 60)
  }

  @Test("a missing field is named, in the middle and at the end")
  func missing() {
    #expect(throws: StateError.missingField(place("watts", 8))) { try decode(phase, key, orders) }
    #expect(throws: StateError.missingField(place("orders", 30))) { try decode(phase, watts, key) }
  }

  @Test("a field out of order is named, with the one in its place")
  func outOfOrder() {
    #expect(throws: StateError.fieldOutOfOrder(place("watts", 8), found: "key")) {
      try decode(phase, key, watts, orders)
    }
  }

  @Test("an unknown field is named, in the middle, at the end, and when it belongs to a newer version")
  func unknown() {
    let extra = Wire.field("colour", Wire.u8, [1])
    #expect(throws: StateError.unknownField(place("colour", 8))) { try decode(phase, extra, watts, key, orders) }
    #expect(throws: StateError.unknownField(place("colour", 47))) { try decode(phase, watts, key, orders, extra) }
    let newer = Wire.field("trim", [6], Wire.u32(1))
    #expect(throws: StateError.unknownField(place("trim", 47))) { try decode(phase, watts, key, orders, newer) }
  }

  @Test("a field of another type is refused with both types")
  func wrongType() {
    let wide = Wire.field("watts", Wire.u16, [1, 0])
    #expect(throws: StateError.wrongType(place("watts", 14), expected: .u32, found: .u16)) { try decode(phase, wide) }
    let flat = Wire.field("orders", Wire.array + Wire.u8, [])
    #expect(throws: StateError.wrongType(place("orders", 37), expected: .array(.record), found: .array(.u8))) {
      try decode(phase, watts, key, flat)
    }
    #expect(throws: StateError.unknownTypeTag(place("phase", 6), tag: 13)) {
      try decode(Wire.field("phase", [13], [1]))
    }
  }

  @Test("a raw value that the enumeration does not know is refused")
  func rawValue() {
    let error = StateError.unknownRawValue(place("phase", 7), value: "2", type: "Phase")
    #expect(throws: error) { try decode(Wire.field("phase", Wire.u8, [2])) }
    #expect("\(error)" == "section lamp, field phase, byte 7: 2 is no value of Phase")
  }

  @Test("a Bool inside an array of records has a path in its error")
  func path() {
    let first = Wire.field("head", Wire.u16, [1, 0]) + Wire.field("urgent", Wire.bool, [1])
    let second = Wire.field("head", Wire.u16, [1, 0]) + Wire.field("urgent", Wire.bool, [2])
    let error = StateError.invalidBool(place("orders[1].urgent", 88), value: 2)
    #expect(throws: error) {
      try decode(phase, watts, key, orders(count: 2, Wire.delimited(first) + Wire.delimited(second)))
    }
    #expect("\(error)" == "section lamp, field orders[1].urgent, byte 88: 2 is neither 0 nor 1")
  }

  @Test("a length beyond the end, a count beyond the bytes and a count beyond the limit are refused before allocating")
  func lengths() {
    let long = Wire.field("key", Wire.bytes, Wire.u32(3) + [1, 2])
    #expect(throws: StateError.lengthBeyondEnd(place("key", 24), byteCount: 3, available: 2)) {
      try decode(phase, watts, long)
    }
    #expect(throws: StateError.lengthBeyondEnd(place("orders", 43), byteCount: 65_536 * 4, available: 0)) {
      try decode(phase, watts, key, orders(count: 65_536, []))
    }
    #expect(throws: StateError.countBeyondLimit(place("orders", 43), count: 65_537, limit: 65_536)) {
      try decode(phase, watts, key, orders(count: 65_537, []))
    }
    let huge = Wire.field("key", Wire.bytes, Wire.u32(.max))
    let limit = StateLimits.bytesByteCount
    #expect(throws: StateError.countBeyondLimit(place("key", 24), count: 4_294_967_295, limit: limit)) {
      try decode(phase, watts, huge)
    }
  }

  @Test("bytes left over inside an array are refused")
  func leftOver() {
    #expect(throws: StateError.trailingBytes(place("orders", 47), byteCount: 1)) {
      try decode(phase, watts, key, orders(count: 0, [7]))
    }
  }

  @Test("a value cut short is refused with the bytes that are missing")
  func truncated() {
    #expect(throws: StateError.truncated(place("watts", 15), missing: 1)) {
      try decode(phase, Array(watts.dropLast()))
    }
  }

  @Test("a string that is not UTF-8 is refused")
  func utf8() {
    let fields = Wire.field("s", Wire.string, Wire.delimited([0x61, 0xC0, 0x80]))
    #expect(throws: StateError.invalidUTF8(StatePlace(section: "", field: "s", offset: 7))) {
      try StateTree(decoding: fields)
    }
    #expect(throws: StateError.invalidUTF8(place("", 1))) { try decode([1, 0xFF, 2, 0]) }
  }

  @Test("records and types that nest too deep are refused")
  func nesting() {
    var record: [UInt8] = []
    for _ in 0...StateLimits.nesting { record = Wire.field("r", Wire.record, Wire.delimited(record)) }
    #expect(throws: StateError.self) { try StateTree(decoding: record) }
    let type = [UInt8](repeating: Wire.optional[0], count: 200_000)
    #expect(throws: StateError.nestedTooDeep(StatePlace(section: "", field: "t", offset: 18))) {
      try StateTree(decoding: Wire.field("t", type, []))
    }
  }

  @Test("a state that no reader would take back is not written")
  func writing() {
    var state = LampState.first
    state.orders = Array(repeating: LampState.Order(), count: StateLimits.elementCount + 1)
    #expect(throws: StateError.countBeyondLimit(place("orders", 39), count: 65_537, limit: 65_536)) {
      try state.encoded(as: 1)
    }
  }
}
