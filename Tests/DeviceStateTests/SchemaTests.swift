import DeviceState
import Testing

@Suite("DeviceState: schemas")
struct SchemaTests {
  @Test("a schema has a line for each field, with its type and the version that added it")
  func text() throws {
    #expect(
      try Schema.text(of: LampState.self) == """
        lamp version 2
          phase: u8
          watts: u32
          key: bytes
          orders: [record]
            head: u16
            urgent: bool
          deadline: u64?, since 2, else null
          trim: i32, since 2, else -1

        """)
  }

  @Test("every kind of value has a type in the schema")
  func everyKind() throws {
    let lines = try Schema.text(of: EveryKindState.self).split(separator: "\n").map { $0.drop { $0 == " " } }
    #expect(
      lines == [
        "every kind version 1", "bool: bool", "u8: u8", "u16: u16", "u32: u32", "u64: u64", "i32: i32", "i64: i64",
        "text: string", "bytes: bytes", "flags: u16", "part: record", "name: string", "inner: [record]?", "head: u16",
        "urgent: bool", "maybe: u16?", "twice: u16??", "numbers: [u64]", "grid: [[i32]]", "blobs: [bytes]",
        "parts: [record?]", "name: string", "inner: [record]?", "head: u16", "urgent: bool", "phases: [u8]",
      ])
  }

  @Test("a sound declaration breaks no rule")
  func sound() throws {
    #expect(try Schema(of: LampState.self).violations.isEmpty)
    #expect(try Schema(of: EveryKindState.self).violations.isEmpty)
  }

  @Test("a declaration that breaks the rules of the format is told so")
  func violations() throws {
    #expect(
      try Schema(of: UnsoundState.self).violations == [
        "unsound.old: since 1, but stands after a newer field",
        "unsound.old: declared twice",
        "unsound.old: since 3, but the section is at 2",
        "unsound.first: since 1, but stands after a newer field",
        "unsound.first: since 1 is no addition",
      ])
  }

  @Test("a record that contains itself is refused instead of printed for ever")
  func recursion() {
    #expect(throws: StateError.self) { try Schema(of: EndlessState.self) }
  }
}

private struct UnsoundState: SavedState {
  static let section = "unsound"
  static let version = 2
  var value: UInt8 = 0

  mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("new", &value, since: 2, else: 0)
    try coder.field("old", &value)
    try coder.field("old", &value, since: 3, else: 0)
    try coder.field("first", &value, since: 1, else: 0)
  }
}

private struct EndlessState: SavedState {
  static let section = "endless"
  static let version = 1
  var children: [EndlessState] = []

  mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("children", &children)
  }
}
