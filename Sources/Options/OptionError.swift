/// What is wrong with a command line.
public enum OptionError: Error, Equatable, Sendable {
  /// There is no such option; `nearest` may be what was meant. Names come with their dashes.
  case unknownOption(String, nearest: String?)
  /// The option is last, or another option follows where its value belongs.
  case missingValue(option: String, placeholder: String)
  /// The option takes no value.
  case unexpectedValue(option: String, value: String)
  /// The option takes one value and was given twice.
  case repeatedOption(String)
  /// The value of an option or operand cannot be read; `expectation` completes "It takes …".
  case invalidValue(of: String, value: String, expectation: String)
  /// The option is needed and was not given.
  case missingOption(String, placeholder: String)
  /// An argument without dashes is needed and was not given.
  case missingOperand(String)
  /// There is one argument without dashes too many.
  case unexpectedOperand(String)
  /// There is no such subcommand; `nearest` may be what was meant.
  case unknownCommand(String, nearest: String?)
  /// A subcommand is needed and was not given.
  case missingCommand(known: [String])
  /// Values that are well written but do not go together, or not with the machine; found by `Command.validate`.
  case rejected(option: String, value: String, reason: String)
}

extension OptionError: CustomStringConvertible {
  /// One sentence that says what to do.
  public var description: String {
    switch self {
    case .unknownOption(let name, let nearest): "There is no option \(name); \(Self.advice(nearest))"
    case .missingValue(let option, let placeholder):
      "The option \(option) needs a value: write \(option) \(placeholder), or \(option)=\(placeholder)."
    case .unexpectedValue(let option, let value):
      "The option \(option) takes no value: leave out \"=\(value)\"."
    case .repeatedOption(let option): "The option \(option) is given twice: leave one out."
    case .invalidValue(let name, let value, let expectation):
      "The value \"\(value)\" of \(name) cannot be used: it takes \(expectation)."
    case .missingOption(let option, let placeholder): "The option \(option) is missing: add \(option) \(placeholder)."
    case .missingOperand(let name): "The argument \(name) is missing: add it at the end."
    case .unexpectedOperand(let value): "Nothing is expected where \"\(value)\" stands: leave it out."
    case .unknownCommand(let name, let nearest): "There is no command \(name); \(Self.advice(nearest))"
    case .missingCommand(let known): "Say what to do: \(known.joined(separator: ", ")); --help tells more."
    case .rejected(let option, let value, let reason): "The value \"\(value)\" of \(option) cannot be used: \(reason)."
    }
  }

  private static func advice(_ nearest: String?) -> String {
    nearest.map { "did you mean \($0)?" } ?? "--help lists what there is."
  }
}

/// What a program's exit status tells the shell.
public enum ExitCode: Int32, Sendable {
  case success = 0
  /// The command line was understood, and what it asks for failed.
  case failure = 1
  /// The command line was not understood.
  case usage = 2
}
