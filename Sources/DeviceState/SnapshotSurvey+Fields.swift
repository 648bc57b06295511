/// Reading fields, however damaged. A record and an array have a length, so what is wrong in one costs the rest of that one.
extension SnapshotSurvey {
  /// The fields of a section's payload.
  mutating func readFields(of section: String, _ range: Range<Int>) -> [StateTree.Field] {
    var cursor = ByteCursor(Array(bytes[range]), section: section, origin: range.lowerBound)
    cursor.valuesLeft = valuesLeft
    defer { valuesLeft = cursor.valuesLeft }
    return fields(&cursor)
  }

  /// Fields up to the end of what the cursor has opened, which it is at afterwards.
  private mutating func fields(_ cursor: inout ByteCursor) -> [StateTree.Field] {
    var fields: [StateTree.Field] = []
    var names: Set<String> = []
    while !cursor.isAtEnd {
      let before = cursor
      do throws(StateError) {
        let field = try field(&cursor)
        if !names.insert(field.name).inserted {
          var place = before
          place.path.enter(field.name)
          document.note("\(StateError.duplicateField(place.place))")
        }
        fields.append(field)
      } catch {
        giveUp(error, &cursor, before)
      }
    }
    return fields
  }

  private mutating func giveUp(_ error: StateError, _ cursor: inout ByteCursor, _ before: ByteCursor) {
    cursor = before
    let place = cursor.place
    document.note("\(error)")
    document.note("\(place): the \(cursor.remaining) bytes from here were passed over")
    cursor.skipRest()
  }

  private mutating func field(_ cursor: inout ByteCursor) throws(StateError) -> StateTree.Field {
    let start = cursor.place.offset
    let name = try name(&cursor)
    cursor.path.enter(name)
    let type = try cursor.type()
    span(start, cursor.place.offset - start, "field \(name.quoted): \(type)")
    let value = try value(type, &cursor)
    cursor.path.leave()
    return StateTree.Field(name: name, type: type, value: value)
  }

  private mutating func name(_ cursor: inout ByteCursor) throws(StateError) -> String {
    try text(byteCount: Int(try cursor.integer(UInt8.self)), &cursor)
  }

  /// Text in which what is no UTF-8 is replaced.
  private mutating func text(byteCount: Int, _ cursor: inout ByteCursor) throws(StateError) -> String {
    let place = cursor.place
    let bytes = cursor.source[try cursor.take(byteCount)]
    if String(validating: bytes, as: UTF8.self) == nil { document.note("\(StateError.invalidUTF8(place))") }
    return String(decoding: bytes, as: UTF8.self)
  }

  private mutating func value(_ type: StateType, _ cursor: inout ByteCursor) throws(StateError) -> StateTree {
    try cursor.countValue()
    switch type {
    case .record: return try record(&cursor)
    case .array(let element): return try array(of: element, &cursor)
    case .optional(let wrapped): return try optional(wrapped, &cursor)
    case .bool: return .bool(try flag(&cursor, "") != 0)
    default:
      let place = cursor.place
      let value = try scalar(type, &cursor)
      span(place.offset, cursor.place.offset - place.offset, "\(place.field.printable) = \(value.scalar)")
      return value
    }
  }

  private mutating func scalar(_ type: StateType, _ cursor: inout ByteCursor) throws(StateError) -> StateTree {
    guard type == .string else { return try StateTree.uncounted(type, &cursor) }
    let byteCount = Int(try cursor.integer(UInt32.self))
    return .string(try text(byteCount: byteCount, &cursor))
  }

  /// One byte that should be 0 or 1.
  private mutating func flag(_ cursor: inout ByteCursor, _ what: String) throws(StateError) -> UInt8 {
    let place = cursor.place
    let value = try cursor.integer(UInt8.self)
    if value > 1 { document.note("\(StateError.invalidBool(place, value: value))") }
    let meaning = what.isEmpty ? "= \(value != 0)" : value == 0 ? "is absent" : "is present"
    span(place.offset, 1, "\(place.field.printable) \(meaning)")
    return value
  }

  private mutating func optional(_ wrapped: StateType, _ cursor: inout ByteCursor) throws(StateError) -> StateTree {
    try flag(&cursor, "optional") == 0 ? .optional(nil) : .optional(try value(wrapped, &cursor))
  }

  private mutating func record(_ cursor: inout ByteCursor) throws(StateError) -> StateTree {
    let place = cursor.place
    let outerEnd = try open(&cursor, asRecord: true)
    span(place.offset, 4, "\(place.field.printable): record of \(cursor.remaining) bytes")
    let fields = fields(&cursor)
    try cursor.closeRecord(outerEnd)
    return .record(fields)
  }

  private mutating func array(of element: StateType, _ cursor: inout ByteCursor) throws(StateError) -> StateTree {
    let place = cursor.place
    let outerEnd = try open(&cursor, asRecord: false)
    let count = Int(try cursor.integer(UInt32.self))
    span(place.offset, 8, "\(place.field.printable): \(count) elements in \(cursor.remaining) bytes")
    let elements = elements(min(count, StateLimits.elementCount), of: element, &cursor)
    if elements.count < count {
      document.note("\(place): \(count) elements are announced, \(elements.count) were read")
    }
    if !cursor.isAtEnd { document.note("\(StateError.trailingBytes(cursor.place, byteCount: cursor.remaining))") }
    cursor.skipRest()
    try cursor.close(outerEnd)
    return .array(elements)
  }

  private mutating func elements(_ count: Int, of type: StateType, _ cursor: inout ByteCursor) -> [StateTree] {
    var elements: [StateTree] = []
    for index in 0..<count where !cursor.isAtEnd {
      let before = cursor
      cursor.path.enter(element: index)
      do throws(StateError) {
        elements.append(try value(type, &cursor))
        cursor.path.leave()
      } catch {
        giveUp(error, &cursor, before)
      }
    }
    return elements
  }

  /// Enters what a length announces, or as much of it as is there.
  private mutating func open(_ cursor: inout ByteCursor, asRecord: Bool) throws(StateError) -> Int {
    var ahead = cursor
    do throws(StateError) {
      let outerEnd = asRecord ? try ahead.openRecord() : try ahead.open()
      cursor = ahead
      return outerEnd
    } catch .lengthBeyondEnd(let place, let byteCount, let available) {
      document.note("\(StateError.lengthBeyondEnd(place, byteCount: byteCount, available: available))")
      return try cursor.openRest(asRecord: asRecord)
    }
  }
}
