import Foundation
import LinuxIO
import Options
import Testing

@testable import virtiokit

/// A balloon that is being served, and its operator, on one thread.
private final class Operator {
  let loop: EventLoop
  let service: BalloonService
  let path: String

  init(_ change: (inout BalloonCommand) -> Void = { _ in }) throws {
    let directory = FileManager.default.temporaryDirectory
    path = directory.appendingPathComponent("balloon-\(UUID().uuidString.prefix(8))").path
    var command = BalloonCommand()
    command.socketPath = "\(path).sock"
    command.control = "\(path).ctl"
    change(&command)
    loop = try EventLoop()
    service = try BalloonService(command, loop: loop, standardInput: nil)
  }

  func connect() throws -> UnixSocket {
    try UnixSocket.connect(to: "\(path).ctl")
  }

  func pump() throws {
    while try loop.runOnce(within: .zero) > 0 {}
  }

  func say(_ line: String, on socket: borrowing UnixSocket) throws -> String {
    try socket.send(Array("\(line)\n".utf8))
    try pump()
    guard try socket.waitUntilReadable(within: .zero) else { return "" }
    return String(decoding: try socket.descriptor.readBytes(upTo: 65_536), as: UTF8.self)
  }

  deinit {
    try? service.end()
  }
}

@Suite("virtiokit: a balloon that is served") struct BalloonServiceTests {
  @Test("commands on the control socket are answered one by one")
  func control() throws {
    let balloon = try Operator()
    let socket = try balloon.connect()
    #expect(try balloon.say("info balloon", on: socket) == "no guest is connected\nok\n")
    #expect(try balloon.say("info balloon --json", on: socket) == "{\"connected\": false}\nok\n")
    #expect(try balloon.say("inflate 5", on: socket).hasPrefix("error: a balloon of 5 B cannot be"))
    #expect(try balloon.say("dance\nhelp", on: socket).hasPrefix("error: there is no command \"dance\""))
    let forAll = "no guest is connected: this holds for those that come\nok\n"
    #expect(try balloon.say("balloon 512M", on: socket) == forAll)
    #expect(try balloon.say("inflate 16M", on: socket) == "no guest is connected: this holds for the next\nok\n")
  }

  @Test("a target that leaves a guest less than a page is refused before anything is served", arguments: [0, 4095])
  func target(bytes: UInt64) throws {
    var command = BalloonCommand()
    command.socketPath = "balloon.sock"
    command.target = ByteCount(bytes: bytes)
    #expect(throws: OptionError.self) { try command.validate() }
    command.target = ByteCount(bytes: 4096)
    try command.validate()
  }

  @Test("a path that is taken, by a server or by a file, is named with what to do", arguments: [false, true])
  func pathInUse(isControl: Bool) throws {
    let first = try Operator()
    let option = isControl ? "--control" : "--socket-path"
    for path in ["\(first.path).ctl", #filePath] {
      let error = #expect(throws: SocketTrouble.self) {
        try Operator { if isControl { $0.control = path } else { $0.socketPath = path } }
      }
      let isFile = path == #filePath
      #expect(error == (isFile ? .notASocket(path: path, option: option) : .inUse(path: path, option: option)))
      #expect(error?.description.hasSuffix("or give \(option) another path") == true)
    }
  }

  @Test("an inherited descriptor that is not open, or no socket, is named with what to do")
  func inherited() throws {
    let file = try MemoryFile.create(name: "no-socket", byteCount: 4096)
    // The service closes what it is given.
    let copy = try file.duplicate().release()
    for number in [copy, 1_000_000] {
      let error = #expect(throws: SocketTrouble.self) {
        try Operator { (command: inout BalloonCommand) in
          command.socketPath = nil
          command.descriptor = Int(number)
        }
      }
      #expect(error == .notInherited(number))
    }
  }

  @Test("ctl says whether nobody is there or nobody answers")
  func noAnswer() throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("ctl-\(UUID().uuidString.prefix(8))").path
    var command = ControlCommand()
    command.control = path
    command.words = ["help"]
    command.timeout = .milliseconds(20)
    #expect(throws: SocketTrouble.noServer(path: path)) { try command.run() }
    let listener = try UnixListener(path: path)
    #expect(throws: SocketTrouble.noAnswer(path: path, limit: .milliseconds(20))) { try command.run() }
    #expect(listener.path == path)
    #expect("\(SocketTrouble.noAnswer(path: path, limit: .milliseconds(20)))".contains("within 20ms"))
  }

  @Test("a client that sends no line, or leaves, costs the others nothing")
  func rudeClients() throws {
    let balloon = try Operator()
    let rude = try balloon.connect()
    try rude.send([UInt8](repeating: 65, count: 10_000))
    do {
      let leaving = try balloon.connect()
      try leaving.send(Array("info balloon\n".utf8))
    }
    try balloon.pump()
    #expect(try rude.waitUntilReadable(within: .zero))
    let polite = try balloon.connect()
    #expect(try balloon.say("balloon 1G", on: polite).hasSuffix("\nok\n"))
  }

  @Test("a path that is taken is an error, and is left alone")
  func takenPath() throws {
    let first = try Operator()
    #expect(throws: SocketTrouble.self) {
      _ = try Operator { $0.socketPath = "\(first.path).sock" }
    }
    #expect(throws: SocketTrouble.self) {
      _ = try Operator { $0.control = "\(first.path).ctl" }
    }
    let socket = try first.connect()
    #expect(try first.say("help", on: socket).hasSuffix("ok\n"))
  }

  @Test("options that do not go together are refused")
  func options() {
    for arguments in [
      [], ["--socket-path", "a", "--fd", "5"], ["--fd", "2"], ["--fd", "-1"], ["--fd", "99999999999"],
      ["--socket-path", "a", "--statistics-interval", "0s"],
    ] {
      #expect(throws: OptionError.self) { try BalloonCommand.parse(arguments, program: "p") }
    }
  }
}
