/// Lays out help texts in 80 columns.
enum HelpText {
  private static let lineLength = 80
  private static let widestTerm = 30

  /// The help of one command.
  static func text(
    program: String, rows: [OptionTable.Row], summary: String, discussion: String, examples: [Example]
  ) -> String {
    let operands = rows.filter(\.isOperand)
    let options =
      rows.filter { !$0.isOperand }.map { (term($0), explanation($0)) } + [("--help", "show this text")]
    return [
      usage(program, rows),
      wrap(summary, indent: 0),
      discussion.split(separator: "\n\n").map { wrap(String($0), indent: 0) }.joined(separator: "\n\n"),
      section("Arguments", columns(operands.map { ($0.name, $0.help) })),
      section("Options", columns(options)),
      section(
        "Examples",
        examples.map { example in
          let line = [program, example.arguments].filter { !$0.isEmpty }.joined(separator: " ")
          return "  \(line)\n" + wrap(example.meaning, indent: 6)
        }.joined(separator: "\n")),
    ].filter { !$0.isEmpty }.joined(separator: "\n\n") + "\n"
  }

  /// The help of a program with several commands.
  static func text(program: String, summary: String, commands: [(String, String)]) -> String {
    [
      "Usage: \(program) COMMAND [options]",
      wrap(summary, indent: 0),
      section("Commands", columns(commands)),
      wrap("For what a command does and takes: \(program) COMMAND --help", indent: 0),
    ].joined(separator: "\n\n") + "\n"
  }

  private static func usage(_ program: String, _ rows: [OptionTable.Row]) -> String {
    let required = rows.filter { $0.kind == .required }.map(term)
    let operands = rows.filter(\.isOperand).map { $0.kind == .operands ? "\($0.name)..." : $0.name }
    return wrap(
      (["Usage: \(program)"] + required + ["[options]"] + operands).joined(separator: " "), indent: 0, hanging: 4)
  }

  private static func term(_ row: OptionTable.Row) -> String {
    row.placeholder.isEmpty ? row.spelling : "\(row.spelling) \(row.placeholder)"
  }

  private static func explanation(_ row: OptionTable.Row) -> String {
    let remark =
      switch row.kind {
      case .required: "required"
      case .repeated: row.standard.isEmpty ? "may be repeated" : "may be repeated; default: \(row.standard)"
      case .flag, .value, .operand, .operands: row.standard.isEmpty ? "" : "default: \(row.standard)"
      }
    return remark.isEmpty ? row.help : "\(row.help) (\(remark))"
  }

  private static func section(_ title: String, _ body: String) -> String {
    body.isEmpty ? "" : "\(title):\n\(body)"
  }

  /// Terms on the left, explanations on the right, all starting in one column. A very wide term has a line of its own.
  private static func columns(_ entries: [(term: String, explanation: String)]) -> String {
    let width = entries.map(\.term.count).filter { $0 <= widestTerm }.max() ?? 0
    let indent = width + 4
    return entries.map { (term, explanation) in
      let right = wrap(explanation, indent: indent)
      if term.count > width { return "  \(term)\n\(right)" }
      return "  \(term)\(spaces(indent - 2 - term.count))\(right.dropFirst(indent))"
    }.joined(separator: "\n")
  }

  /// Breaks text at spaces; lines after the first are indented by `hanging` more. A word that is too long stays whole.
  private static func wrap(_ text: String, indent: Int, hanging: Int = 0) -> String {
    var lines = [spaces(indent)]
    var length = 0
    for word in text.split(whereSeparator: \.isWhitespace) {
      let start = lines.count == 1 ? indent : indent + hanging
      if length > 0, start + length + 1 + word.count > lineLength {
        lines.append(spaces(indent + hanging))
        length = 0
      }
      lines[lines.count - 1] += length > 0 ? " \(word)" : "\(word)"
      length += (length > 0 ? 1 : 0) + word.count
    }
    return lines.joined(separator: "\n")
  }

  private static func spaces(_ count: Int) -> String {
    String(repeating: " ", count: count)
  }
}
