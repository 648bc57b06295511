/// Sorts the words of a command line by the options and operands that a table knows.
struct ArgumentReader {
  private let rows: [OptionTable.Row]
  private var operands: ArraySlice<OptionTable.Row>
  /// What the user wrote for each option and operand that was given; one empty text for a flag.
  private(set) var given: [String: [String]] = [:]

  private init(_ rows: [OptionTable.Row]) {
    self.rows = rows
    operands = rows.filter(\.isOperand)[...]
  }

  /// Reads all arguments. Everything after `--` is an operand.
  static func read(_ arguments: [String], for rows: [OptionTable.Row]) throws(OptionError) -> [String: [String]] {
    var reader = ArgumentReader(rows)
    var rest = arguments[...]
    while let argument = rest.popFirst() {
      if argument == "--" {
        for operand in rest { try reader.take(operand: operand) }
        break
      } else if argument.hasPrefix("-"), argument != "-" {
        try reader.take(option: argument, &rest)
      } else {
        try reader.take(operand: argument)
      }
    }
    try reader.checkNothingIsMissing()
    return reader.given
  }

  private mutating func take(option argument: String, _ rest: inout ArraySlice<String>) throws(OptionError) {
    let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    let spelling = String(parts[0])
    guard let row = rows.first(where: { $0.spelling == spelling && !$0.isOperand }) else {
      throw .unknownOption(spelling, nearest: nearestName(to: spelling, among: knownSpellings))
    }
    var value = parts.count == 2 ? String(parts[1]) : nil
    if row.kind == .flag {
      if let value { throw .unexpectedValue(option: spelling, value: value) }
      value = ""
    } else if value == nil, let next = rest.first, !next.hasPrefix("--") {
      value = rest.removeFirst()
    }
    guard let value else { throw .missingValue(option: spelling, placeholder: row.placeholder) }
    guard row.kind == .repeated || given[row.name] == nil else { throw .repeatedOption(spelling) }
    given[row.name, default: []].append(value)
  }

  private mutating func take(operand argument: String) throws(OptionError) {
    guard let row = operands.first else { throw .unexpectedOperand(argument) }
    if row.kind == .operand { operands.removeFirst() }
    given[row.name, default: []].append(argument)
  }

  private func checkNothingIsMissing() throws(OptionError) {
    for row in rows where row.kind == .required && given[row.name] == nil {
      throw .missingOption(row.spelling, placeholder: row.placeholder)
    }
    if let row = operands.first, given[row.name] == nil { throw .missingOperand(row.name) }
  }

  private var knownSpellings: [String] {
    rows.filter { !$0.isOperand }.map(\.spelling) + ["--help"]
  }
}
