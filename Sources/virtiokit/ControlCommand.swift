import LinuxIO
import Options

/// `virtiokit ctl`
struct ControlCommand: Command {
  static let name = "ctl"
  static let summary = "Sends one command to a device that is being served."
  static let examples = [
    Example("--control /run/balloon.ctl balloon 512M", "The guest is to have 512 MiB of memory."),
    Example("--control /run/balloon.ctl info balloon --json", "Print what there is to know, as JSON."),
  ]

  var control = ""
  var words: [String] = []
  var asJSON = false
  var timeout = Duration.seconds(10)

  mutating func declare(in options: inout OptionTable) {
    options.required("control", &control, "the device's control socket", placeholder: "PATH")
    options.flag("json", &asJSON, "ask for JSON, where the command has any")
    options.value("timeout", &timeout, "how long to wait for the answer")
    options.operands("COMMAND", &words, "what to do, such as balloon 512M; help lists all there is")
  }

  func validate() throws(OptionError) {
    try SocketOptions.check(control, of: "--control")
    if words.allSatisfy({ $0.allSatisfy(\.isWhitespace) }) { throw .missingOperand("COMMAND") }
  }

  func run() throws {
    let line = (words + (asJSON ? ["--json"] : [])).joined(separator: " ")
    guard !line.contains("\n") else { throw CommandError.unknown(line) }
    let refusal: Refusal?
    do throws(LinuxError) {
      refusal = try ask(line)
    } catch {
      throw SocketTrouble(error, asking: control, within: timeout) ?? error as any Error
    }
    if let refusal { throw refusal }
  }

  /// Has the device carry out a line and prints what it says.
  private func ask(_ line: String) throws(LinuxError) -> Refusal? {
    let socket = try UnixSocket.connect(to: control)
    try socket.send(Array("\(line)\n".utf8), within: timeout)
    while let answer = try nextLine(from: socket) {
      if answer == Reply.done { return nil }
      if answer.hasPrefix(Reply.failed) { return Refusal(reason: String(answer.dropFirst(Reply.failed.count))) }
      Terminal.write("\(answer)\n")
    }
    return Refusal(reason: "\(control): the device left without an answer")
  }

  private func nextLine(from socket: borrowing UnixSocket) throws(LinuxError) -> String? {
    var bytes: [UInt8] = []
    while let byte = try socket.receive(exactly: 1, within: timeout)?.bytes.first {
      if byte == UInt8(ascii: "\n") { return String(decoding: bytes, as: UTF8.self) }
      bytes.append(byte)
    }
    return nil
  }
}

/// The device's own words for why it did not do what it was told.
struct Refusal: Error, CustomStringConvertible {
  let reason: String
  var description: String { reason }
}
