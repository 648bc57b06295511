import DeviceState
import Options

/// `virtiokit state show`
struct StateShowCommand: Command {
  static let name = "show"
  static let summary = "Prints everything in a file of saved state, whoever wrote it."
  static let discussion = """
    Names and types stand in the file, so what a newer or another program wrote is printed too. Of a damaged file it prints \
    what can be read, and says where something could not. \(StateOutcome.explanation)
    """
  static let examples = [
    Example("balloon.state", "Print a balloon's state, with what its numbers mean."),
    Example("disk.state --json", "Print it as JSON, in the form that convert and edit read."),
    Example("- < disk.state", "Read standard input."),
  ]

  var file = ""
  var asJSON = false

  mutating func declare(in options: inout OptionTable) {
    options.flag("json", &asJSON, "print JSON")
    options.operand("FILE", &file, "a snapshot, as bytes or as JSON")
  }

  func run() throws -> StateOutcome {
    let document = try StateFile(file).document()
    try Terminal.deliver(asJSON ? document.indentedJSON : document.text(StateMeaning.remark))
    if document.problems.isEmpty { return .fine }
    return document.sections.isEmpty ? .unreadable : .different
  }
}

/// `virtiokit state hexdump`
struct StateHexdumpCommand: Command {
  static let name = "hexdump"
  static let summary = "Prints the bytes of a snapshot, each beside the field that it is."
  static let discussion = "Bytes that mean nothing have ?? beside them. \(StateOutcome.explanation)"
  static let examples = [Example("balloon.state", "See where each field stands.")]

  var file = ""

  mutating func declare(in options: inout OptionTable) {
    options.operand("FILE", &file, "a snapshot")
  }

  func run() throws -> StateOutcome {
    let file = try StateFile(file)
    let (document, bytes) = (file.document(), try file.bytes())
    try Terminal.deliver(document.hexdump(of: bytes))
    for problem in document.problems { Terminal.complain(problem) }
    if document.problems.isEmpty { return .fine }
    return document.sections.isEmpty ? .unreadable : .different
  }
}

/// `virtiokit state schema`
struct StateSchemaCommand: Command {
  static let name = "schema"
  static let summary = "Prints the fields of every section that this program knows: names, types, since which version."
  static let discussion = """
    The same program always prints the same; a change of it is a change of the format. \(StateOutcome.explanation)
    """
  static let examples = [
    Example("", "Print all sections."),
    Example("--section net --section net-host", "Print those of a network card."),
  ]

  var sections: [String] = []

  mutating func declare(in options: inout OptionTable) {
    options.repeated("section", &sections, "print only this one", placeholder: "NAME")
  }

  func run() throws -> StateOutcome {
    for section in sections where !KnownState.all.contains(where: { $0.section == section }) {
      throw StateFileError.noSection(section)
    }
    let chosen = KnownState.all.filter { sections.isEmpty || sections.contains($0.section) }
    try Terminal.deliver(chosen.map { try $0.schema().text }.joined(separator: "\n"))
    return .fine
  }
}
