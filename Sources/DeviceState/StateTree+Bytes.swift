extension StateTree {
  /// The payload of a section with these fields: for a tree that was decoded, the bytes it was decoded from.
  ///
  /// Throws `valueDoesNotFit` where a value is not of the type beside it, and when the tree is not a record.
  public func payload() throws(StateError) -> [UInt8] {
    var writer = StateWriter(section: "", version: 1)
    guard case .record(let fields) = self else { throw .valueDoesNotFit(writer.place, type: .record) }
    try Self.write(fields, to: &writer)
    return try writer.finish()
  }

  private static func write(_ fields: [Field], to writer: inout StateWriter) throws(StateError) {
    for field in fields {
      guard field.name.utf8.count <= StateLimits.nameByteCount else { throw .invalidName(name: field.name) }
      writer.begin(field.name, field.type)
      try field.value.write(as: field.type, to: &writer)
      writer.path.leave()
    }
  }

  private func write(as type: StateType, to writer: inout StateWriter) throws(StateError) {
    switch (type, self) {
    case (.bool, .bool(let value)): try value.writeState(to: &writer)
    case (.u8, .unsigned(let value)): try write(UInt8(exactly: value), as: type, to: &writer)
    case (.u16, .unsigned(let value)): try write(UInt16(exactly: value), as: type, to: &writer)
    case (.u32, .unsigned(let value)): try write(UInt32(exactly: value), as: type, to: &writer)
    case (.u64, .unsigned(let value)): try value.writeState(to: &writer)
    case (.i32, .signed(let value)): try write(Int32(exactly: value), as: type, to: &writer)
    case (.i64, .signed(let value)): try value.writeState(to: &writer)
    case (.string, .string(let value)): try value.writeState(to: &writer)
    case (.bytes, .bytes(let value)): try value.writeState(to: &writer)
    case (.record, .record(let fields)):
      let start = writer.open()
      try Self.write(fields, to: &writer)
      try writer.close(start)
    case (.array(let element), .array(let values)): try Self.write(values, as: element, to: &writer)
    case (.optional(let wrapped), .optional(let value)):
      try (value != nil).writeState(to: &writer)
      try value?.write(as: wrapped, to: &writer)
    default: throw .valueDoesNotFit(writer.place, type: type)
    }
  }

  private func write<T: StateValue>(_ value: T?, as type: StateType, to writer: inout StateWriter) throws(StateError) {
    guard let value else { throw .valueDoesNotFit(writer.place, type: type) }
    try value.writeState(to: &writer)
  }

  private static func write(
    _ values: [StateTree], as element: StateType, to writer: inout StateWriter
  ) throws(StateError) {
    let start = try writer.openArray(of: values.count)
    for (index, value) in values.enumerated() {
      writer.path.enter(element: index)
      try value.write(as: element, to: &writer)
      writer.path.leave()
    }
    try writer.close(start)
  }
}
