extension StateTree {
  /// One step of a path: `size`, `[2]`, or `[index=2]`.
  private enum Step {
    case field(Substring)
    case element(Substring)
  }

  /// The value at a path such as `queues[2].size` or `queues[index=2].size`; nil when there is none.
  public subscript(path path: String) -> StateTree? {
    var found: StateTree? = self
    for step in Self.steps(of: path) ?? [.element("")] { found = found?.value(at: step) }
    return found
  }

  /// The tree with another value at a path, told as `json` would tell it; a number, text or bytes without quotes.
  ///
  /// Throws `noSuchField` or `unreadableValue`.
  public func setting(_ path: String, to text: String) throws(StateError) -> StateTree {
    guard let steps = Self.steps(of: path) else { throw .noSuchField(path) }
    return try setting(steps[...], path, .record) { (type) throws(StateError) in
      // What is no JSON is a text, or a number that is written another way; and a text may look like a number.
      let readings = [try? JSONText(parsing: text), .string(text)]
      for case let json? in readings {
        if let value = try? StateTree(json, as: type, path: path) { return value }
      }
      throw .unreadableValue(field: path, text: text, type: type)
    }
  }

  private static func steps(of path: String) -> [Step]? {
    var steps: [Step] = []
    for part in path.split(separator: ".", omittingEmptySubsequences: false) {
      let pieces = part.split(separator: "[", omittingEmptySubsequences: false)
      guard let name = pieces.first, !name.isEmpty else { return nil }
      steps.append(.field(name))
      for piece in pieces.dropFirst() {
        guard piece.hasSuffix("]") else { return nil }
        steps.append(.element(piece.dropLast()))
      }
    }
    return steps
  }

  /// Where among the fields or elements a step leads.
  private func index(of step: Step) -> Int? {
    switch (self, step) {
    case (.record(let fields), .field(let name)): return fields.firstIndex { $0.name == name }
    case (.array(let elements), .element(let which)):
      if let index = Int(which), elements.indices.contains(index) { return index }
      return elements.firstIndex { $0.key == String(which) }
    default: return nil
    }
  }

  private func value(at step: Step) -> StateTree? {
    if case .optional(let inner) = self { return inner?.value(at: step) }
    guard let index = index(of: step) else { return nil }
    switch self {
    case .record(let fields): return fields[index].value
    case .array(let elements): return elements[index]
    default: return nil
    }
  }

  private func setting(
    _ steps: ArraySlice<Step>, _ path: String, _ type: StateType, _ make: (StateType) throws(StateError) -> StateTree
  ) throws(StateError) -> StateTree {
    guard let step = steps.first else { return try make(type) }
    if case .optional(let inner?) = self {
      return .optional(try inner.setting(steps, path, type.element ?? type, make))
    }
    guard let index = index(of: step) else { throw .noSuchField(path) }
    switch self {
    case .record(var fields):
      let field = fields[index]
      let value = try field.value.setting(steps.dropFirst(), path, field.type, make)
      fields[index] = Field(name: field.name, type: field.type, value: value)
      return .record(fields)
    case .array(var elements):
      elements[index] = try elements[index].setting(steps.dropFirst(), path, type.element ?? type, make)
      return .array(elements)
    default: throw .noSuchField(path)
    }
  }
}
