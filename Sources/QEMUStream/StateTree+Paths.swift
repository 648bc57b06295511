import DeviceState

/// Fields of saved state by their path, such as `filter.modes`, as `docs/state-format.md` names them.
extension StateTree {
  /// The value at a path; nil when there is none.
  func value(at path: String) -> StateTree? {
    path.split(separator: ".").reduce(StateTree?.some(self)) { tree, name in
      guard case .record(let fields)? = tree else { return nil }
      return fields.first { $0.name == name }?.value
    }
  }

  /// The number at a path; nil when there is none.
  func number(_ path: String) -> UInt64? {
    switch value(at: path) {
    case .unsigned(let value): value
    case .bool(let value): value ? 1 : 0
    default: nil
    }
  }

  func bool(_ path: String) -> Bool { number(path) == 1 }

  func bytes(_ path: String) -> [UInt8] {
    guard case .bytes(let bytes)? = value(at: path) else { return [] }
    return bytes
  }

  func elements(_ path: String) -> [StateTree] {
    guard case .array(let elements)? = value(at: path) else { return [] }
    return elements
  }

  func numbers(_ path: String) -> [UInt64] {
    elements(path).compactMap { if case .unsigned(let value) = $0 { value } else { nil } }
  }

  /// The same with another value at a path that there is.
  func replacing(_ path: String, with value: StateTree) -> StateTree {
    replacing(path.split(separator: ".")[...], with: value)
  }

  private func replacing(_ path: ArraySlice<Substring>, with value: StateTree) -> StateTree {
    guard let name = path.first, case .record(let fields) = self else { return value }
    return .record(
      fields.map { field in
        guard field.name == name else { return field }
        return Field(name: field.name, type: field.type, value: field.value.replacing(path.dropFirst(), with: value))
      })
  }
}

extension StateTree.Field {
  static func number(_ name: String, _ type: StateType, _ value: some BinaryInteger) -> StateTree.Field {
    StateTree.Field(name: name, type: type, value: .unsigned(UInt64(value)))
  }

  static func bool(_ name: String, _ value: Bool) -> StateTree.Field {
    StateTree.Field(name: name, type: .bool, value: .bool(value))
  }
}
