/// Where in a snapshot something is wrong.
public struct StatePlace: Equatable, Sendable, CustomStringConvertible {
  /// The section, as `name` or `name/instance`; empty for the snapshot's own header and frame.
  public let section: String
  /// The path of the field, such as `queues[2].size`; empty when no field is being read.
  public let field: String
  /// The byte at which it was noticed: counted from the start of the snapshot, or from the start of the payload when
  /// a payload was decoded by itself.
  public let offset: Int

  public init(section: String, field: String, offset: Int) {
    self.section = section
    self.field = field
    self.offset = offset
  }

  public var description: String {
    var parts: [String] = []
    if !section.isEmpty { parts.append("section \(section.printable)") }
    if !field.isEmpty { parts.append("field \(field.printable)") }
    parts.append("byte \(offset)")
    return parts.joined(separator: ", ")
  }
}

/// The fields, records and elements that lead to where a coder stands.
struct StatePath {
  private enum Step {
    case field(String)
    case element(Int)
  }

  private var steps: [Step] = []

  mutating func enter(_ name: String) { steps.append(.field(name)) }
  mutating func enter(element index: Int) { steps.append(.element(index)) }
  mutating func leave() { steps.removeLast() }

  var text: String {
    var text = ""
    for step in steps {
      switch step {
      case .field(let name): text += text.isEmpty ? name : ".\(name)"
      case .element(let index): text += "[\(index)]"
      }
    }
    return text
  }
}
