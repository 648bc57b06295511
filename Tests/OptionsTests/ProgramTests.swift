import Options
import Testing

private enum Action: Equatable {
  case serve(Serve)
  case inspect(Inspect)
}

private let program = Program(
  name: "virtiokit", summary: "Serves and inspects virtio devices.",
  commands: [.init(Serve.self, Action.serve), .init(Inspect.self, Action.inspect)])

@Suite("Programs") struct ProgramTests {
  @Test("the first word chooses the command, which reads the rest")
  func choice() throws {
    var serve = Serve()
    serve.socket = "/s"
    #expect(try program.parse(["serve", "--socket", "/s"]) == .run(.serve(serve)))
  }

  @Test("no command, an option in its place, and an unknown one are told apart")
  func mistakes() {
    let known = ["serve", "inspect"]
    #expect(failure { () throws(OptionError) in _ = try program.parse([]) } == .missingCommand(known: known))
    #expect(failure { () throws(OptionError) in _ = try program.parse(["--x"]) } == .missingCommand(known: known))
    let misspelt = failure { () throws(OptionError) in _ = try program.parse(["isnpect"]) }
    #expect(misspelt == .unknownCommand("isnpect", nearest: "inspect"))
    #expect(misspelt?.description == "There is no command isnpect; did you mean inspect?")
  }

  @Test("help is reached by every usual way, and outweighs mistakes")
  func waysToHelp() throws {
    for arguments in [["--help"], ["-h"], ["help"], ["help", "--help"]] {
      #expect(try program.parse(arguments) == .help(program.help))
    }
    let help = Serve.help(program: "virtiokit serve")
    for arguments in [["serve", "--help"], ["help", "serve"], ["serve", "--nonsense", "-h"]] {
      #expect(try program.parse(arguments) == .help(help))
    }
  }

  @Test("a program that has a version tells it, and one that has none knows no such option")
  func version() throws {
    let versioned = Program<Action>(name: "virtiokit", summary: "", version: "1.2.3", commands: [])
    #expect(try versioned.parse(["--version"]) == .help("virtiokit 1.2.3\n"))
    let error = failure { () throws(OptionError) in _ = try program.parse(["--version"]) }
    #expect(error == .missingCommand(known: ["serve", "inspect"]))
  }

  @Test("a program's help lists its commands")
  func programHelp() {
    #expect(
      program.help == """
        Usage: virtiokit COMMAND [options]

        Serves and inspects virtio devices.

        Commands:
          serve    Serves a balloon device to a vhost-user front-end, until it is told
                   to stop.
          inspect  Prints a saved state.

        For what a command does and takes: virtiokit COMMAND --help

        """)
  }

  @Test("a command's help shows usage, purpose, options with defaults, and examples")
  func commandHelp() {
    #expect(
      Serve.help(program: "virtiokit serve") == """
        Usage: virtiokit serve --socket PATH [options]

        Serves a balloon device to a vhost-user front-end, until it is told to stop.

        The front-end connects to a socket.

        It may come and go.

        Options:
          --socket PATH           where the front-end connects (required)
          --target SIZE           how much memory the guest keeps (default: 512 MiB)
          --limit TIME            how long a peer may stall
          --mode polling|waiting  how to look for work (default: waiting)
          --disk PATH             a file to serve, which is opened for reading and
                                  writing, or for reading when it is read-only (may be
                                  repeated)
          --verbose               say more
          --help                  show this text

        Examples:
          virtiokit serve --socket /run/b.sock --target 1G
              Keep the guest at 1 GiB.

        """)
  }

  @Test("a command without options of its own still has a help, with its operands")
  func operandHelp() {
    #expect(
      Inspect.help(program: "inspect") == """
        Usage: inspect [options] FILE SECTION

        Prints a saved state.

        Arguments:
          FILE     the state
          SECTION  the part to print

        Options:
          --help  show this text

        """)
  }
}
