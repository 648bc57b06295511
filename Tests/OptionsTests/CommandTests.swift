import Options
import Testing

struct Serve: Command, Equatable {
  enum Mode: String, CaseIterable, OptionValue { case polling, waiting }

  static let name = "serve"
  static let summary = "Serves a balloon device to a vhost-user front-end, until it is told to stop."
  static let discussion = "The front-end connects to a socket.\n\nIt may come and go."
  static let examples = [Example("--socket /run/b.sock --target 1G", "Keep the guest at 1 GiB.")]

  var socket = ""
  var target = ByteCount.mebibytes(512)
  var limit: Duration?
  var mode = Mode.waiting
  var disks: [String] = []
  var isVerbose = false

  mutating func declare(in options: inout OptionTable) {
    options.required("socket", &socket, "where the front-end connects", placeholder: "PATH")
    options.value("target", &target, "how much memory the guest keeps")
    options.value("limit", &limit, "how long a peer may stall")
    options.value("mode", &mode, "how to look for work")
    options.repeated(
      "disk", &disks, "a file to serve, which is opened for reading and writing, or for reading when it is read-only",
      placeholder: "PATH")
    options.flag("verbose", &isVerbose, "say more")
  }

  func validate() throws(OptionError) {
    if target.bytes == 0 {
      throw .rejected(option: "--target", value: target.optionText, reason: "a guest needs some memory")
    }
  }
}

struct Inspect: Command, Equatable {
  static let name = "inspect"
  static let summary = "Prints a saved state."
  var file = ""
  var section: String = "all"

  mutating func declare(in options: inout OptionTable) {
    options.operand("FILE", &file, "the state")
    options.operand("SECTION", &section, "the part to print")
  }
}

struct Send: Command, Equatable {
  static let name = "send"
  static let summary = "Sends words."
  var file = ""
  var words: [String] = []
  var isLoud = false

  mutating func declare(in options: inout OptionTable) {
    options.flag("loud", &isLoud, "shout")
    options.operand("FILE", &file, "where to")
    options.operands("WORD", &words, "what to say")
  }
}

func parseServe(_ arguments: [String]) throws(OptionError) -> Serve? {
  guard case .run(let serve) = try Serve.parse(arguments, program: "virtiokit serve") else { return nil }
  return serve
}

func failure(_ body: () throws(OptionError) -> Void) -> OptionError? {
  do {
    try body()
    return nil
  } catch {
    return error
  }
}

@Suite("Commands") struct CommandTests {
  @Test("options not given keep their defaults")
  func defaults() throws {
    var expected = Serve()
    expected.socket = "/s"
    #expect(try parseServe(["--socket", "/s"]) == expected)
  }

  @Test("values may follow a space or an equals sign, and may look odd")
  func values() throws {
    let serve = try parseServe([
      "--socket=/a=b", "--target", "1.5G", "--limit=250ms", "--mode", "polling", "--disk", "-", "--disk=--x", "--disk=",
      "--verbose",
    ])
    #expect(serve?.socket == "/a=b")
    #expect(serve?.target == .mebibytes(1536))
    #expect(serve?.limit == .milliseconds(250))
    #expect(serve?.mode == .polling)
    #expect(serve?.disks == ["-", "--x", ""])
    #expect(serve?.isVerbose == true)
  }

  @Test(
    "each mistake has its error, and a sentence that says what to do",
    arguments: [
      (["--sokcet", "/s"], .unknownOption("--sokcet", nearest: "--socket"), "did you mean --socket?"),
      (["-verbose"], .unknownOption("-verbose", nearest: "--verbose"), "did you mean --verbose?"),
      (["--quiet"], .unknownOption("--quiet", nearest: nil), "--help lists what there is."),
      (["--socket"], .missingValue(option: "--socket", placeholder: "PATH"), "write --socket PATH, or --socket=PATH."),
      (["--socket", "--verbose"], .missingValue(option: "--socket", placeholder: "PATH"), "needs a value"),
      (["--verbose=yes"], .unexpectedValue(option: "--verbose", value: "yes"), "leave out \"=yes\"."),
      (["--socket=a", "--socket=b"], .repeatedOption("--socket"), "leave one out."),
      (["--verbose", "--verbose"], .repeatedOption("--verbose"), "leave one out."),
      (
        ["--socket=a", "--target=lots"],
        .invalidValue(of: "--target", value: "lots", expectation: ByteCount.expectation), "it takes a size"
      ),
      (
        ["--socket=a", "--mode=fast"],
        .invalidValue(of: "--mode", value: "fast", expectation: "one of polling, waiting"), "it takes one of polling"
      ),
      (["--verbose"], .missingOption("--socket", placeholder: "PATH"), "add --socket PATH."),
      (["--socket=a", "b"], .unexpectedOperand("b"), "leave it out."),
      (["--socket=a", "--", "--verbose"], .unexpectedOperand("--verbose"), "leave it out."),
      (
        ["--socket=a", "--target=0"],
        .rejected(option: "--target", value: "0 B", reason: "a guest needs some memory"), "a guest needs some memory."
      ),
    ] as [([String], OptionError, String)])
  func mistakes(arguments: [String], error: OptionError, advice: String) {
    let thrown = failure { () throws(OptionError) in _ = try parseServe(arguments) }
    #expect(thrown == error)
    #expect(thrown?.description.contains(advice) == true)
  }

  @Test("operands are taken in order, and all are needed")
  func operands() throws {
    var expected = Inspect()
    expected.file = "--odd"
    expected.section = "-"
    #expect(try Inspect.parse(["--", "--odd", "-"], program: "p") == .run(expected))
    let missing = failure { () throws(OptionError) in _ = try Inspect.parse(["f"], program: "p") }
    #expect(missing == .missingOperand("SECTION"))
  }

  @Test("the last operand may take all that are left, between options too, but not none")
  func manyOperands() throws {
    var expected = Send()
    expected.file = "f"
    expected.words = ["a", "b", "-"]
    expected.isLoud = true
    #expect(try Send.parse(["f", "a", "--loud", "b", "-"], program: "p") == .run(expected))
    let missing = failure { () throws(OptionError) in _ = try Send.parse(["f"], program: "p") }
    #expect(missing == .missingOperand("WORD"))
    #expect(Send.help(program: "p").hasPrefix("Usage: p [options] FILE WORD...\n"))
  }

  @Test("an absurdly long argument costs no more than itself")
  func longArgument() {
    let long = "--" + String(repeating: "x", count: 1 << 20)
    let thrown = failure { () throws(OptionError) in _ = try parseServe([long]) }
    #expect(thrown == .unknownOption(long, nearest: nil))
  }
}
