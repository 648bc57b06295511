extension String: StateValue {
  public static var stateType: StateType { .string }

  public func writeState(to writer: inout StateWriter) throws(StateError) {
    try writer.check(utf8.count, within: StateLimits.stringByteCount)
    writer.append(UInt32(utf8.count))
    writer.append(contentsOf: utf8)
  }

  public static func readState(from reader: inout StateReader) throws(StateError) -> String {
    try reader.cursor.string()
  }
}

extension Array: StateValue where Element: StateValue {
  public static var stateType: StateType { Element.stateListType }

  public func writeState(to writer: inout StateWriter) throws(StateError) {
    try Element.writeStateList(self, to: &writer)
  }

  public static func readState(from reader: inout StateReader) throws(StateError) -> [Element] {
    try Element.readStateList(from: &reader)
  }

  public static func printSchema(to printer: inout SchemaPrinter) throws(StateError) {
    try Element.printSchema(to: &printer)
  }
}

extension Optional: StateValue where Wrapped: StateValue {
  public static var stateType: StateType { .optional(Wrapped.stateType) }

  public func writeState(to writer: inout StateWriter) throws(StateError) {
    writer.append(self == nil ? 0 : 1 as UInt8)
    try self?.writeState(to: &writer)
  }

  public static func readState(from reader: inout StateReader) throws(StateError) -> Wrapped? {
    try reader.cursor.bool() ? try Wrapped.readState(from: &reader) : nil
  }

  public static func printSchema(to printer: inout SchemaPrinter) throws(StateError) {
    try Wrapped.printSchema(to: &printer)
  }
}

extension StateValue where Self: RawRepresentable, RawValue: StateValue {
  public static var stateType: StateType { RawValue.stateType }

  public func writeState(to writer: inout StateWriter) throws(StateError) { try rawValue.writeState(to: &writer) }

  public static func readState(from reader: inout StateReader) throws(StateError) -> Self {
    let place = reader.cursor.place
    let rawValue = try RawValue.readState(from: &reader)
    guard let value = Self(rawValue: rawValue) else {
      throw .unknownRawValue(place, value: "\(rawValue)", type: "\(Self.self)")
    }
    return value
  }
}

extension StateRecord {
  public static var stateType: StateType { .record }

  public func writeState(to writer: inout StateWriter) throws(StateError) {
    let start = writer.open()
    var record = self
    try record.code(with: &writer)
    try writer.close(start)
  }

  public static func readState(from reader: inout StateReader) throws(StateError) -> Self {
    let outerEnd = try reader.cursor.openRecord()
    let record = try reader.fields(of: Self.self)
    try reader.cursor.closeRecord(outerEnd)
    return record
  }

  public static func printSchema(to printer: inout SchemaPrinter) throws(StateError) {
    var record = Self()
    try record.code(with: &printer)
  }
}
