import DeviceState
import LinuxIO
import Options

/// What there is to do with saved state: `virtiokit state show` and its siblings.
enum StateAction {
  case show(StateShowCommand)
  case diff(StateDiffCommand)
  case check(StateCheckCommand)
  case schema(StateSchemaCommand)
  case edit(StateEditCommand)
  case convert(StateConvertCommand)
  case hexdump(StateHexdumpCommand)

  static let program = Program<StateAction>(
    name: "virtiokit state", summary: "Shows, compares, checks and changes saved device state.",
    commands: [
      .init(StateShowCommand.self) { .show($0) },
      .init(StateDiffCommand.self) { .diff($0) },
      .init(StateCheckCommand.self) { .check($0) },
      .init(StateSchemaCommand.self) { .schema($0) },
      .init(StateEditCommand.self) { .edit($0) },
      .init(StateConvertCommand.self) { .convert($0) },
      .init(StateHexdumpCommand.self) { .hexdump($0) },
    ])

  /// - Returns: the program's exit status. What cannot be read at all is told and gives `unreadable`.
  func run() -> StateOutcome {
    do {
      return try perform()
    } catch {
      Terminal.complain("\(error)")
      return .unreadable
    }
  }

  private func perform() throws -> StateOutcome {
    switch self {
    case .show(let command): try command.run()
    case .diff(let command): try command.run()
    case .check(let command): try command.run()
    case .schema(let command): try command.run()
    case .edit(let command): try command.run()
    case .convert(let command): try command.run()
    case .hexdump(let command): try command.run()
    }
  }
}

/// How it went, for scripts: the exit status, as `diff` and `cmp` have it.
enum StateOutcome: Int32 {
  case fine = 0
  /// The files differ, the state is not consistent, or some of the file could not be read.
  case different = 1
  /// The file could not be read at all, or not as was asked for.
  case unreadable = 2

  static let explanation = """
    Exit status: 0 when all is well, 1 when files differ, a state is not consistent or some of a file could not be read, \
    2 when nothing could be done.
    """
}
