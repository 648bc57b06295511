import Foundation
import Options

@main
struct BalloonDemo {
  static func main() {
    let arguments = Array(CommandLine.arguments.dropFirst())
    if arguments.first == HostProcess.roleArgument { exit(GuestHost.main()) }
    if arguments.first == GuestGuard.roleArgument { exit(GuestGuard.main(Array(arguments.dropFirst())).rawValue) }
    exit(status(for: arguments).rawValue)
  }

  private static func status(for arguments: [String]) -> ExitCode {
    do {
      switch try DemoOptions.parse(arguments, program: "balloon-demo") {
      case .help(let text):
        print(text)
        return .success
      case .run(let options):
        return run(options)
      }
    } catch {
      complain("\(error)")
      return .usage
    }
  }

  private static func run(_ options: DemoOptions) -> ExitCode {
    let terminal = Terminal(isQuiet: options.json)
    do {
      let report =
        switch options.guest {
        case .simulated: try simulated(options, terminal)
        case .linux: try LinuxDemo.show(options, terminal)
        }
      if options.json { print(try report.json) }
      if let path = options.reportPath {
        try DemoPage(report: report).html.write(toFile: path, atomically: true, encoding: .utf8)
      }
      return report.verified ? .success : .failure
    } catch {
      terminal.say("")
      complain("\(error)")
      return .failure
    }
  }

  private static func simulated(_ options: DemoOptions, _ terminal: Terminal) throws -> DemoReport {
    var demo = SimulatedDemo(options: options, terminal: terminal)
    return try demo.run()
  }

  private static func complain(_ text: String) {
    FileHandle.standardError.write(Data("balloon-demo: \(text)\n".utf8))
  }
}
