/// A value that a field can hold: `Bool`, `UInt8` to `UInt64`, `Int32`, `Int64`, `String`, `[UInt8]`, a `StateRecord`,
/// and arrays and optionals of those.
///
/// An enumeration or option set with such a raw value needs no more than `enum Phase: UInt8, StateValue`; a raw value
/// that it does not know is refused when read. Other modules do not write the requirements themselves.
public protocol StateValue: Equatable, Sendable {
  /// The type that stands beside the field's name.
  static var stateType: StateType { get }
  /// Appends the value, without its type.
  func writeState(to writer: inout StateWriter) throws(StateError)
  /// Reads what `writeState` wrote.
  static func readState(from reader: inout StateReader) throws(StateError) -> Self
  /// Shows the fields of the record that is inside the value, if there is one.
  static func printSchema(to printer: inout SchemaPrinter) throws(StateError)

  /// The type of an array of these. `UInt8` alone has another than `array(stateType)`.
  static var stateListType: StateType { get }
  static func writeStateList(_ list: [Self], to writer: inout StateWriter) throws(StateError)
  static func readStateList(from reader: inout StateReader) throws(StateError) -> [Self]
}

extension StateValue {
  public static func printSchema(to printer: inout SchemaPrinter) throws(StateError) {}

  public static var stateListType: StateType { .array(stateType) }

  public static func writeStateList(_ list: [Self], to writer: inout StateWriter) throws(StateError) {
    let start = try writer.openArray(of: list.count)
    for (index, value) in list.enumerated() {
      writer.path.enter(element: index)
      try value.writeState(to: &writer)
      writer.path.leave()
    }
    try writer.close(start)
  }

  public static func readStateList(from reader: inout StateReader) throws(StateError) -> [Self] {
    let outerEnd = try reader.cursor.open()
    let count = try reader.cursor.elementCount(of: stateType)
    var list: [Self] = []
    // Never more memory than the bytes that are there, however large an element is in memory.
    list.reserveCapacity(min(count, reader.cursor.remaining / MemoryLayout<Self>.stride))
    for index in 0..<count {
      reader.cursor.path.enter(element: index)
      list.append(try readState(from: &reader))
      reader.cursor.path.leave()
    }
    try reader.cursor.close(outerEnd)
    return list
  }
}

// MARK: - Integers and Bool

extension StateValue where Self: FixedWidthInteger {
  public func writeState(to writer: inout StateWriter) throws(StateError) { writer.append(self) }
  public static func readState(from reader: inout StateReader) throws(StateError) -> Self {
    try reader.cursor.integer(Self.self)
  }
}

extension UInt8: StateValue {
  public static var stateType: StateType { .u8 }
  public static var stateListType: StateType { .bytes }

  public static func writeStateList(_ list: [UInt8], to writer: inout StateWriter) throws(StateError) {
    try writer.check(list.count, within: StateLimits.bytesByteCount)
    writer.append(UInt32(list.count))
    writer.append(contentsOf: list)
  }

  public static func readStateList(from reader: inout StateReader) throws(StateError) -> [UInt8] {
    try reader.cursor.bytes()
  }
}

extension UInt16: StateValue { public static var stateType: StateType { .u16 } }
extension UInt32: StateValue { public static var stateType: StateType { .u32 } }
extension UInt64: StateValue { public static var stateType: StateType { .u64 } }
extension Int32: StateValue { public static var stateType: StateType { .i32 } }
extension Int64: StateValue { public static var stateType: StateType { .i64 } }

extension Bool: StateValue {
  public static var stateType: StateType { .bool }
  public func writeState(to writer: inout StateWriter) throws(StateError) { writer.append(self ? 1 : 0 as UInt8) }
  public static func readState(from reader: inout StateReader) throws(StateError) -> Bool { try reader.cursor.bool() }
}
