/// Reads the fields that a state asks for from the payload of a section.
///
/// Every name and type in the payload is compared with the one asked for, so a snapshot of other fields is refused
/// by name instead of being misread.
public struct StateReader: StateCoder {
  var cursor: ByteCursor
  private let version: Int
  /// The type of the record being read, whose field names explain a mismatch.
  private var record: (any StateRecord.Type)?

  init(_ cursor: ByteCursor, version: Int) {
    self.cursor = cursor
    self.version = version
  }

  public mutating func field<V: StateValue>(_ name: StaticString, _ value: inout V) throws(StateError) {
    let name = name.description
    guard cursor.skip(name: name) else { throw try mismatch(expected: name) }
    cursor.path.enter(name)
    let start = cursor.position
    let type = try cursor.type()
    guard type == V.stateType else {
      throw .wrongType(cursor.place(at: start), expected: V.stateType, found: type)
    }
    value = try V.readState(from: &self)
    cursor.path.leave()
  }

  public mutating func field<V: StateValue>(
    _ name: StaticString, _ value: inout V, since: Int, else absent: V
  ) throws(StateError) {
    if since <= version { try field(name, &value) } else { value = absent }
  }

  /// Reads a record's fields up to the end of what the cursor has opened.
  mutating func fields<R: StateRecord>(of type: R.Type) throws(StateError) -> R {
    let outer = record
    record = type
    var value = R()
    try value.code(with: &self)
    guard cursor.isAtEnd else {
      let found = try cursor.peekName()
      cursor.path.enter(found)
      throw .unknownField(cursor.place)
    }
    record = outer
    return value
  }

  /// Why the next field is not the expected one.
  private mutating func mismatch(expected: String) throws(StateError) -> StateError {
    let start = cursor.place
    func place(_ name: String) -> StatePlace {
      var path = cursor.path
      path.enter(name)
      return StatePlace(section: start.section, field: path.text, offset: start.offset)
    }
    if cursor.isAtEnd { return .missingField(place(expected)) }
    let found = try cursor.peekName()
    let known = try record.map { type throws(StateError) in try SchemaPrinter.fields(of: type) } ?? []
    guard known.contains(where: { $0.name == found && $0.since <= version }) else {
      return .unknownField(place(found))
    }
    var ahead = cursor
    let later = try StateTree.fields(&ahead).map(\.name)
    return later.contains(expected) ? .fieldOutOfOrder(place(expected), found: found) : .missingField(place(expected))
  }
}

extension ByteCursor {
  func peekName() throws(StateError) -> String {
    var ahead = self
    return try ahead.name()
  }
}
