/// One thing that a program can be told to do: a structure whose fields are its options.
///
/// ```swift
/// struct Serve: Command {
///   static let name = "serve"
///   static let summary = "Serves a balloon device to a vhost-user front-end."
///   var socket = ""
///   var target = ByteCount.mebibytes(512)
///
///   mutating func declare(in options: inout OptionTable) {
///     options.required("socket", &socket, "where the front-end connects", placeholder: "PATH")
///     options.value("target", &target, "how much memory the guest keeps")
///   }
/// }
/// ```
public protocol Command: SendableMetatype {
  /// What the user types to choose it, among the commands of a `Program`.
  static var name: String { get }
  /// What it does, in one sentence.
  static var summary: String { get }
  /// What else there is to know, in any number of paragraphs; none by default.
  static var discussion: String { get }
  /// Command lines to learn from; none by default.
  static var examples: [Example] { get }

  /// Makes one with every option at its default.
  init()
  /// Shows each field to the table, in the order of the help text.
  mutating func declare(in options: inout OptionTable)
  /// Throws when values do not go together; accepts everything by default.
  func validate() throws(OptionError)
}

extension Command {
  public static var discussion: String { "" }
  public static var examples: [Example] { [] }
  public func validate() throws(OptionError) {}
}

/// A command line, without the program's name, and what it does.
public struct Example: Sendable {
  public let arguments: String
  public let meaning: String

  public init(_ arguments: String, _ meaning: String) {
    self.arguments = arguments
    self.meaning = meaning
  }
}

/// What a command line asks for.
public enum Invocation<Action> {
  case run(Action)
  /// To be printed on standard output; the program has succeeded.
  case help(String)
}

extension Invocation: Sendable where Action: Sendable {}
extension Invocation: Equatable where Action: Equatable {}

extension Command {
  /// Reads the arguments, without the program's name. `--help` or `-h` before a `--` outweighs all else.
  /// - Parameter program: what the user types before them, for the help text.
  public static func parse(_ arguments: [String], program: String) throws(OptionError) -> Invocation<Self> {
    if asksForHelp(arguments) { return .help(help(program: program)) }
    let given = try ArgumentReader.read(arguments, for: rows)
    var command = Self()
    var table = OptionTable(given: given)
    command.declare(in: &table)
    if let failure = table.failure { throw failure }
    try command.validate()
    return .run(command)
  }

  /// The text that `--help` shows: usage, purpose, options with their defaults, and examples.
  /// - Parameter program: what the user types before the arguments.
  public static func help(program: String) -> String {
    HelpText.text(
      program: program, rows: rows, summary: summary, discussion: discussion, examples: examples)
  }

  private static var rows: [OptionTable.Row] {
    var command = Self()
    var table = OptionTable()
    command.declare(in: &table)
    return table.rows
  }
}

func asksForHelp(_ arguments: [String]) -> Bool {
  arguments.prefix { $0 != "--" }.contains { $0 == "--help" || $0 == "-h" }
}
