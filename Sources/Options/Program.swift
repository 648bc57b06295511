/// A program that does one of several things: `program command options`.
///
/// ```swift
/// enum Action { case serve(Serve), inspect(Inspect) }
/// let program = Program(
///   name: "virtiokit", summary: "Serves and inspects virtio devices.",
///   commands: [.init(Serve.self, Action.serve), .init(Inspect.self, Action.inspect)])
/// ```
public struct Program<Action>: Sendable {
  /// A command and what it becomes, as a rule a case of an enumeration.
  public struct Entry: Sendable {
    let name: String
    let summary: String
    let parse: @Sendable (_ arguments: [String], _ program: String) throws(OptionError) -> Invocation<Action>

    public init<Chosen: Command>(_ type: Chosen.Type, _ action: @escaping @Sendable (Chosen) -> Action) {
      name = Chosen.name
      summary = Chosen.summary
      parse = { (arguments, program) throws(OptionError) in
        switch try Chosen.parse(arguments, program: program) {
        case .run(let command): .run(action(command))
        case .help(let text): .help(text)
        }
      }
    }

    /// A command that has commands of its own: `program name command options`.
    ///
    /// - Parameter group: its commands, under a name such as `program name`.
    public init<Inner>(
      _ name: String, _ group: Program<Inner>, _ action: @escaping @Sendable (Inner) -> Action
    ) {
      self.name = name
      summary = group.summary
      parse = { (arguments, _) throws(OptionError) in
        switch try group.parse(arguments) {
        case .run(let inner): .run(action(inner))
        case .help(let text): .help(text)
        }
      }
    }
  }

  private let name: String
  private let summary: String
  private let version: String?
  private let commands: [Entry]

  /// - Parameters:
  ///   - name: what the user types.
  ///   - summary: what the program does, in one sentence.
  ///   - version: what `--version` shows after the name; nil when there is no such option.
  public init(name: String, summary: String, version: String? = nil, commands: [Entry]) {
    self.name = name
    self.summary = summary
    self.version = version
    self.commands = commands
  }

  /// Reads the arguments, without the program's name. `help COMMAND` is the same as `COMMAND --help`.
  public func parse(_ arguments: [String]) throws(OptionError) -> Invocation<Action> {
    guard let first = arguments.first else { throw .missingCommand(known: commands.map(\.name)) }
    let rest = Array(arguments.dropFirst())
    switch first {
    case "--help", "-h": return .help(help)
    case "--version":
      guard let version else { throw .missingCommand(known: commands.map(\.name)) }
      return .help("\(name) \(version)\n")
    case "help":
      guard let topic = rest.first, !asksForHelp(rest) else { return .help(help) }
      return try entry(named: topic).parse(["--help"], "\(name) \(topic)")
    default:
      return try entry(named: first).parse(rest, "\(name) \(first)")
    }
  }

  /// The text that `--help` shows: usage, purpose and commands.
  public var help: String {
    HelpText.text(program: name, summary: summary, commands: commands.map { ($0.name, $0.summary) })
  }

  private func entry(named word: String) throws(OptionError) -> Entry {
    if let entry = commands.first(where: { $0.name == word }) { return entry }
    if word.hasPrefix("-") { throw .missingCommand(known: commands.map(\.name)) }
    throw .unknownCommand(word, nearest: nearestName(to: word, among: commands.map(\.name) + ["help"]))
  }
}
