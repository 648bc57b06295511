extension StateTree {
  /// The value as JSON on one line.
  ///
  /// A field's key is `name: type`, so that nothing of the tree is lost: `{"pages: u32": 7}`. 64-bit integers are strings,
  /// since most JSON readers round numbers above 2⁵³; bytes are a string of hexadecimal digits; an absent optional is
  /// null, and an optional inside an optional is an array of one.
  public var json: String { json(as: nil) }

  private func json(as type: StateType?) -> String {
    switch (self, type) {
    case (.bool(let value), _): "\(value)"
    case (.unsigned(let value), .u64): "\"\(value)\""
    case (.unsigned(let value), _): "\(value)"
    case (.signed(let value), .i64): "\"\(value)\""
    case (.signed(let value), _): "\(value)"
    case (.string(let value), _): value.quoted
    case (.bytes(let value), _): "\"\(value.hex)\""
    case (.record(let fields), _):
      "{" + fields.map { "\"\($0.name.printable): \($0.type)\": \($0.value.json(as: $0.type))" }.joined(separator: ", ")
        + "}"
    case (.array(let elements), _): "[" + elements.map { $0.json(as: type?.element) }.joined(separator: ", ") + "]"
    case (.optional(nil), _): "null"
    case (.optional(let value?), .optional(.optional)): "[\(value.json(as: type?.element))]"
    case (.optional(let value?), _): value.json(as: type?.element)
    }
  }

  /// The value for people: one line for each field and element, indented by depth.
  public var text: String { lines(indentation: "").map { $0 + "\n" }.joined() }

  /// What to say beside a value, from its path such as `queues[2].size`.
  public typealias Remark = (_ path: String, _ value: StateTree) -> String?

  func lines(indentation: String, path: String = "", _ remark: Remark = { _, _ in nil }) -> [String] {
    switch self {
    case .record(let fields):
      fields.flatMap {
        $0.value.lines(
          "\(indentation)\($0.name.printable): \($0.type)", indentation: indentation,
          path: path.isEmpty ? $0.name : "\(path).\($0.name)", remark)
      }
    case .array(let elements):
      elements.enumerated().flatMap {
        $1.lines("\(indentation)[\($0)]", indentation: indentation, path: "\(path)[\($0)]", remark)
      }
    case .optional(let value?): value.lines(indentation: indentation, path: path, remark)
    default: [indentation + scalar]
    }
  }

  private func lines(_ label: String, indentation: String, path: String, _ remark: Remark) -> [String] {
    switch self {
    case .record, .array:
      [label + (isEmpty ? " (empty)" : "")] + lines(indentation: indentation + "  ", path: path, remark)
    case .optional(let value?): value.lines(label, indentation: indentation, path: path, remark)
    default: ["\(label) = \(scalar)" + (remark(path, self).map { "  (\($0))" } ?? "")]
    }
  }

  private var isEmpty: Bool {
    switch self {
    case .record(let fields): fields.isEmpty
    case .array(let elements): elements.isEmpty
    default: false
    }
  }

  /// A value of one line; long bytes are cut, and say so.
  var scalar: String {
    guard case .bytes(let bytes) = self else { return json }
    let shown = bytes.prefix(32).hex
    return bytes.count > 32 ? "\(shown)… (\(bytes.count) bytes)" : shown.isEmpty ? "(empty)" : shown
  }
}

extension StateType {
  /// What an array or an optional is of.
  var element: StateType? {
    switch self {
    case .array(let element), .optional(let element): element
    default: nil
    }
  }
}
