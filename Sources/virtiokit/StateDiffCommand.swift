import DeviceState
import Options

/// `virtiokit state diff`
struct StateDiffCommand: Command {
  static let name = "diff"
  static let summary = "Prints which fields differ between two files of saved state."
  static let discussion = """
    Fields are compared by name and queues by number, wherever they stand; what the values mean is printed beside them. \
    \(StateOutcome.explanation)
    """
  static let examples = [
    Example("before.state after.state", "See what a guest did between two moments."),
    Example("before.state after.state --ignore counters", "Leave out everything that is only counted."),
  ]

  var old = ""
  var new = ""
  var ignored: [String] = []

  mutating func declare(in options: inout OptionTable) {
    options.repeated("ignore", &ignored, "leave out fields whose path begins so", placeholder: "PATH")
    options.operand("OLD", &old, "a snapshot, as bytes or as JSON")
    options.operand("NEW", &new, "another")
  }

  func run() throws -> StateOutcome {
    let (first, second) = (try StateFile(old).document(), try StateFile(new).document())
    for (path, document) in [(old, first), (new, second)] {
      for problem in document.problems { Terminal.complain("\(path): \(problem)") }
    }
    if first.sections.isEmpty && !first.problems.isEmpty || second.sections.isEmpty && !second.problems.isEmpty {
      return .unreadable
    }
    let found = first.differences(to: second).filter { difference in
      !ignored.contains { difference.field.hasPrefix($0) }
    }
    try Terminal.deliver(found.map(Self.line).joined())
    return found.isEmpty && first.problems.isEmpty && second.problems.isEmpty ? .fine : .different
  }

  static func line(_ difference: StateDifference) -> String {
    let place = difference.field.isEmpty ? difference.section : "\(difference.section): \(difference.field)"
    func side(_ value: StateTree) -> String {
      let meaning = StateMeaning.remark(section: difference.section, difference.field, value)
      return value.summary + (meaning.map { " (\($0))" } ?? "")
    }
    return switch (difference.old, difference.new) {
    case (let old?, let new?): "~ \(place): \(side(old)) -> \(side(new))\n"
    case (let old?, nil): "- \(place): \(side(old))\n"
    case (nil, let new?): "+ \(place): \(side(new))\n"
    case (nil, nil): ""
    }
  }
}
