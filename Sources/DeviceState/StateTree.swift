/// A value read by the names and types that stand in the snapshot, without the code that wrote it.
///
/// Nothing is lost: `payload()` gives back the bytes it was read from.
public indirect enum StateTree: Equatable, Sendable {
  /// A named value of a record.
  public struct Field: Equatable, Sendable {
    public let name: String
    public let type: StateType
    public let value: StateTree

    public init(name: String, type: StateType, value: StateTree) {
      self.name = name
      self.type = type
      self.value = value
    }
  }

  case bool(Bool)
  /// `u8` to `u64`.
  case unsigned(UInt64)
  /// `i32` and `i64`.
  case signed(Int64)
  case string(String)
  case bytes([UInt8])
  case record([Field])
  case array([StateTree])
  case optional(StateTree?)

  /// The record that the payload of a section is.
  public init(decoding payload: [UInt8]) throws(StateError) {
    var cursor = ByteCursor(payload, section: "")
    self = .record(try Self.fields(&cursor))
  }

  /// The tree of one value.
  init<V: StateValue>(_ value: V) throws(StateError) {
    var writer = StateWriter(section: "", version: .max)
    try value.writeState(to: &writer)
    var cursor = ByteCursor(try writer.finish(), section: "")
    self = try Self.value(V.stateType, &cursor)
  }

  /// Reads fields up to the end of what the cursor has opened.
  static func fields(_ cursor: inout ByteCursor) throws(StateError) -> [Field] {
    var fields: [Field] = []
    var names: Set<String> = []
    while !cursor.isAtEnd {
      let name = try cursor.name()
      cursor.path.enter(name)
      guard names.insert(name).inserted else { throw .duplicateField(cursor.place) }
      let type = try cursor.type()
      fields.append(Field(name: name, type: type, value: try value(type, &cursor)))
      cursor.path.leave()
    }
    return fields
  }

  static func value(_ type: StateType, _ cursor: inout ByteCursor) throws(StateError) -> StateTree {
    try cursor.countValue()
    return try uncounted(type, &cursor)
  }

  /// A value that was counted by whoever asks for it; see `ByteCursor.countValue`.
  static func uncounted(_ type: StateType, _ cursor: inout ByteCursor) throws(StateError) -> StateTree {
    switch type {
    case .bool: .bool(try cursor.bool())
    case .u8: .unsigned(UInt64(try cursor.integer(UInt8.self)))
    case .u16: .unsigned(UInt64(try cursor.integer(UInt16.self)))
    case .u32: .unsigned(UInt64(try cursor.integer(UInt32.self)))
    case .u64: .unsigned(try cursor.integer(UInt64.self))
    case .i32: .signed(Int64(try cursor.integer(Int32.self)))
    case .i64: .signed(try cursor.integer(Int64.self))
    case .string: .string(try cursor.string())
    case .bytes: .bytes(try cursor.bytes())
    case .record: try record(&cursor)
    case .array(let element): try array(of: element, &cursor)
    case .optional(let wrapped): .optional(try cursor.bool() ? try value(wrapped, &cursor) : nil)
    }
  }

  private static func record(_ cursor: inout ByteCursor) throws(StateError) -> StateTree {
    let outerEnd = try cursor.openRecord()
    let fields = try fields(&cursor)
    try cursor.closeRecord(outerEnd)
    return .record(fields)
  }

  private static func array(of element: StateType, _ cursor: inout ByteCursor) throws(StateError) -> StateTree {
    let outerEnd = try cursor.open()
    var elements: [StateTree] = []
    for index in 0..<(try cursor.elementCount(of: element)) {
      cursor.path.enter(element: index)
      elements.append(try value(element, &cursor))
      cursor.path.leave()
    }
    try cursor.close(outerEnd)
    return .array(elements)
  }
}
