/// Visits the fields of a command, each with its option's name and meaning.
///
/// The same visit serves parsing and help: the first time it only takes notes, the second time it also stores what the
/// user wrote. So a command says everything about an option in one line of `Command.declare`.
public struct OptionTable {
  /// What is known about one option or operand.
  struct Row {
    enum Kind { case flag, value, required, repeated, operand, operands }

    let name: String
    let kind: Kind
    let placeholder: String
    let help: String
    /// The value without the option, as the user would write it; empty when there is none.
    let standard: String

    /// The name as it is written.
    var spelling: String { isOperand ? name : "--\(name)" }

    var isOperand: Bool { kind == .operand || kind == .operands }
  }

  private(set) var rows: [Row] = []
  /// The first thing that went wrong in a visit.
  private(set) var failure: OptionError?
  private let given: [String: [String]]

  /// A table that takes notes, and stores the texts in `given`, which it finds by name.
  init(given: [String: [String]] = [:]) {
    self.given = given
  }

  /// `--name`: true when it is given.
  public mutating func flag(_ name: String, _ value: inout Bool, _ help: String) {
    add(Row(name: name, kind: .flag, placeholder: "", help: help, standard: ""))
    if given[name] != nil { value = true }
  }

  /// `--name VALUE`: what the field holds before is the default, and shown as such.
  /// - Parameter placeholder: what stands for the value in the help text; the type's own when nil.
  public mutating func value<Value: OptionValue>(
    _ name: String, _ value: inout Value, _ help: String, placeholder: String? = nil
  ) {
    add(
      Row(
        name: name, kind: .value, placeholder: placeholder ?? Value.placeholder, help: help, standard: value.optionText
      ))
    if let last = parsed(name, as: Value.self).last { value = last }
  }

  /// `--name VALUE`: nil when it is not given.
  public mutating func value<Value: OptionValue>(
    _ name: String, _ value: inout Value?, _ help: String, placeholder: String? = nil
  ) {
    add(
      Row(
        name: name, kind: .value, placeholder: placeholder ?? Value.placeholder, help: help,
        standard: value?.optionText ?? ""))
    if let last = parsed(name, as: Value.self).last { value = last }
  }

  /// `--name VALUE` that must be given; what the field holds before does not matter.
  public mutating func required<Value: OptionValue>(
    _ name: String, _ value: inout Value, _ help: String, placeholder: String? = nil
  ) {
    add(
      Row(name: name, kind: .required, placeholder: placeholder ?? Value.placeholder, help: help, standard: ""))
    if let last = parsed(name, as: Value.self).last { value = last }
  }

  /// `--name VALUE`, any number of times: the values in the order of the command line replace what the field holds.
  public mutating func repeated<Value: OptionValue>(
    _ name: String, _ values: inout [Value], _ help: String, placeholder: String? = nil
  ) {
    add(
      Row(
        name: name, kind: .repeated, placeholder: placeholder ?? Value.placeholder, help: help,
        standard: values.map(\.optionText).joined(separator: ", ")))
    if given[name] != nil { values = parsed(name, as: Value.self) }
  }

  /// An argument without dashes that must be given. Several are taken in the order in which they are declared.
  /// - Parameter name: what stands for it in the help text, such as `FILE`.
  public mutating func operand<Value: OptionValue>(_ name: String, _ value: inout Value, _ help: String) {
    add(Row(name: name, kind: .operand, placeholder: name, help: help, standard: ""))
    if let last = parsed(name, as: Value.self).last { value = last }
  }

  /// All arguments without dashes that are left, at least one; declared after every `operand`.
  public mutating func operands<Value: OptionValue>(_ name: String, _ values: inout [Value], _ help: String) {
    add(Row(name: name, kind: .operands, placeholder: name, help: help, standard: ""))
    if given[name] != nil { values = parsed(name, as: Value.self) }
  }

  private mutating func add(_ row: Row) {
    precondition(!rows.contains { $0.name == row.name } && row.name != "help", "\(row.spelling) is declared twice")
    rows.append(row)
  }

  private mutating func parsed<Value: OptionValue>(_ name: String, as type: Value.Type) -> [Value] {
    var values: [Value] = []
    for text in given[name] ?? [] {
      if let value = Value(optionText: text) {
        values.append(value)
      } else if failure == nil, let row = rows.last {
        failure = .invalidValue(of: row.spelling, value: text, expectation: Value.expectation)
      }
    }
    return values
  }
}
