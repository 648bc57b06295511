/// The fields of a state as its code declares them: what the golden tests of a released format compare.
public struct Schema: Equatable, Sendable {
  /// One field, and the fields of the record inside it.
  public struct Field: Equatable, Sendable {
    public let name: String
    public let type: StateType
    /// The version of the section that added it.
    public let since: Int
    /// What reading an older version gives, as JSON; nil for a field of version 1.
    public let absent: String?
    /// The fields of the record that the value is, or that it is an array or optional of.
    public let fields: [Field]
  }

  public let section: String
  public let version: Int
  public let fields: [Field]

  public init<S: SavedState>(of state: S.Type) throws(StateError) {
    section = state.section
    version = state.version
    fields = try SchemaPrinter.fields(of: state)
  }

  /// The schema of a state as text, which changes only when its format does.
  public static func text<S: SavedState>(of state: S.Type) throws(StateError) -> String {
    try Schema(of: state).text
  }

  /// A line for the section and one for each field, indented by depth.
  public var text: String {
    "\(section) version \(version)\n" + Self.lines(fields, indentation: "  ").joined()
  }

  private static func lines(_ fields: [Field], indentation: String) -> [String] {
    fields.flatMap { field in
      let addition = field.absent.map { ", since \(field.since), else \($0)" } ?? ""
      let line = "\(indentation)\(field.name): \(field.type)\(addition)\n"
      return [line] + lines(field.fields, indentation: indentation + "  ")
    }
  }

  /// The rules of the format that the declaration breaks, in words; empty when it is sound.
  public var violations: [String] {
    var found: [String] = []
    if section.isEmpty || section.utf8.count > StateLimits.nameByteCount {
      found.append("the section's name is not 1 to 255 bytes long")
    }
    check(fields, of: section, into: &found)
    return found
  }

  private func check(_ fields: [Field], of path: String, into found: inout [String]) {
    var names: Set<String> = []
    var newest = 1
    for field in fields {
      let name = "\(path).\(field.name)"
      if field.name.isEmpty || field.name.utf8.count > StateLimits.nameByteCount {
        found.append("\(name): the name is not 1 to 255 bytes long")
      }
      if !names.insert(field.name).inserted { found.append("\(name): declared twice") }
      if field.since < newest { found.append("\(name): since \(field.since), but stands after a newer field") }
      if field.since > version { found.append("\(name): since \(field.since), but the section is at \(version)") }
      if field.absent != nil, field.since < 2 { found.append("\(name): since \(field.since) is no addition") }
      newest = max(newest, field.since)
      check(field.fields, of: name, into: &found)
    }
  }
}

/// Collects the fields that a state shows it.
public struct SchemaPrinter: StateCoder {
  private var fields: [Schema.Field] = []
  private let depth: Int

  /// The fields of a record, as an empty one shows them.
  static func fields<R: StateRecord>(of type: R.Type) throws(StateError) -> [Schema.Field] {
    var printer = SchemaPrinter(depth: 0)
    try type.printSchema(to: &printer)
    return printer.fields
  }

  private init(depth: Int) { self.depth = depth }

  public mutating func field<V: StateValue>(_ name: StaticString, _ value: inout V) throws(StateError) {
    try add(name.description, V.self, since: 1, absent: nil)
  }

  public mutating func field<V: StateValue>(
    _ name: StaticString, _ value: inout V, since: Int, else absent: V
  ) throws(StateError) {
    try add(name.description, V.self, since: since, absent: StateTree(absent).json)
  }

  private mutating func add<V: StateValue>(
    _ name: String, _: V.Type, since: Int, absent: String?
  ) throws(StateError) {
    guard depth <= StateLimits.nesting else { throw .nestedTooDeep(StatePlace(section: "", field: name, offset: 0)) }
    var inner = SchemaPrinter(depth: depth + 1)
    try V.printSchema(to: &inner)
    fields.append(Schema.Field(name: name, type: V.stateType, since: since, absent: absent, fields: inner.fields))
  }
}
