import Glibc
import Options

/// `virtiokit`: devices for virtual machines, one command each.
@main
enum Virtiokit {
  private enum Action {
    case balloon(BalloonCommand)
    case blk(BlkCommand)
    case net(NetCommand)
    case migrate(MigrateCommand)
    case control(ControlCommand)
    case replay(ReplayCommand)
    case state(StateAction)
  }

  /// The next release, as the changelog has it.
  static let version = "0.1.0"

  private static let program = Program<Action>(
    name: "virtiokit", summary: "Serves virtio devices to virtual machines, and moves them.", version: version,
    commands: [
      .init(BalloonCommand.self) { .balloon($0) },
      .init(BlkCommand.self) { .blk($0) },
      .init(NetCommand.self) { .net($0) },
      .init(MigrateCommand.self) { .migrate($0) },
      .init(ControlCommand.self) { .control($0) },
      .init(ReplayCommand.self) { .replay($0) },
      .init("state", StateAction.program, Action.state),
    ])

  /// Exits with 0 when all went well, 1 when something failed (some commands tell more apart), 2 when the command line makes no sense.
  static func main() {
    do throws(OptionError) {
      switch try program.parse(Array(CommandLine.arguments.dropFirst())) {
      case .help(let text): Terminal.write(text)
      case .run(let action): try run(action)
      }
    } catch {
      Terminal.complain("\(error)")
      exit(2)
    }
  }

  private static func run(_ action: Action) throws(OptionError) {
    do {
      switch action {
      case .balloon(let command): try command.run()
      case .blk(let command): try command.run()
      case .net(let command): try command.run()
      case .migrate(let command): try command.run()
      case .control(let command): try command.run()
      case .replay(let command): exit(command.run())
      case .state(let action): exit(action.run().rawValue)
      }
    } catch {
      Terminal.complain("\(error)")
      exit((error as? any FailureWithStatus)?.exitStatus ?? 1)
    }
  }
}
