import LinuxIO
import Testing

@testable import virtiokit

@Suite("virtiokit: QEMU's control socket") struct QmpTests {
  private func connect(_ server: ScriptedQmp, within limit: Duration = .seconds(20)) throws(QmpError) -> QmpConnection {
    try QmpConnection(path: server.path, within: limit)
  }

  @Test("a command gets its answer, whatever events come before it")
  func answers() throws {
    let server = try ScriptedQmp { (request) in
      [.say("{\"event\": \"STOP\", \"data\": {}}\n{\"event\": \"RESUME\"}\n"), request.answer(.text(request.command))]
    }
    let connection = try connect(server)
    #expect(try connection.execute("query-name") == .text("query-name"))
    #expect(try connection.execute("query-uuid") == .text("query-uuid"))
  }

  @Test("arguments arrive as they were given, and a descriptor with them")
  func arguments() throws {
    let server = try ScriptedQmp { (request) in
      if let descriptor = request.descriptor { _ = FileDescriptor(owning: descriptor) }
      return [request.answer(.array([request.arguments, .bool(request.descriptor != nil)]))]
    }
    let connection = try connect(server)
    let pipe = try FileDescriptor.pipe()
    let arguments = [("text", JSON.text("a \"quoted\" \\ word\nand ü")), ("number", .number(1 << 40))]
    #expect(try connection.execute("x", arguments) == .array([.object(arguments), .bool(false)]))
    #expect(
      try connection.execute("getfd", passing: pipe.reading.rawValue) == .array([.object([]), .bool(true)]))
  }

  @Test("an error is told in QEMU's own words, and the next command is answered")
  func refused() throws {
    let server = try ScriptedQmp { (request) in
      request.command == "balloon" ? [request.error("No balloon device has been activated")] : [request.answer()]
    }
    let connection = try connect(server)
    #expect(throws: QmpError.refused(command: "balloon", reason: "No balloon device has been activated")) {
      try connection.execute("balloon")
    }
    #expect(try connection.execute("stop") == .object([]))
  }

  @Test("nobody there is told with what to start QEMU with")
  func nobody() {
    let error = #expect(throws: QmpError.self) { try QmpConnection(path: "/tmp/no-such-qmp") }
    #expect(error?.description.contains("-qmp unix:/tmp/no-such-qmp,server=on,wait=off") == true)
  }

  @Test("a server without a greeting is told as one that has another client")
  func silent() throws {
    let server = try ScriptedQmp(greeting: nil)
    #expect(throws: QmpError.silent(path: server.path)) { try connect(server, within: .milliseconds(50)) }
  }

  @Test("what greets otherwise is no QEMU", arguments: ["SSH-2.0-OpenSSH_9.2", "{}", "[1]", "", "{\"QMP\"", "nul"])
  func otherServer(greeting: String) throws {
    let server = try ScriptedQmp(greeting: greeting)
    #expect(throws: QmpError.notQmp(path: server.path, text: greeting)) { try connect(server) }
  }

  @Test("a line without an end is not taken for ever")
  func endless() throws {
    let server = try ScriptedQmp { (request) in
      request.command == "qmp_capabilities"
        ? [request.answer()] : [.dribble(String(repeating: "x", count: QmpConnection.mostLineBytes + 1))]
    }
    let connection = try connect(server)
    #expect(throws: QmpError.lineTooLong(most: QmpConnection.mostLineBytes)) { try connection.execute("stop") }
  }

  @Test("events without end are no answer")
  func onlyEvents() throws {
    let server = try ScriptedQmp { (request) in
      request.command == "qmp_capabilities"
        ? [request.answer()] : [.say(String(repeating: "{\"event\": \"NOISE\"}\n", count: 200_000))]
    }
    let connection = try connect(server)
    #expect(throws: QmpError.stalled(command: "stop", limit: .milliseconds(50))) {
      try connection.execute("stop", within: .milliseconds(50))
    }
  }

  @Test(
    "an answer that is none is named",
    arguments: [
      "nonsense", "[]", "17", "{\"return\": {}", "{\"return\": {}} {}", String(repeating: "[", count: 100_000),
      "{\"a\": \u{7}}",
    ])
  func malformed(line: String) throws {
    let server = try ScriptedQmp { (request) in
      request.command == "qmp_capabilities" ? [request.answer()] : [.say(line + "\n")]
    }
    let connection = try connect(server)
    let error = #expect(throws: QmpError.self) { try connection.execute("stop") }
    guard case .malformed(let shown) = error else { throw try #require(error) }
    #expect(shown.count < 300)
  }

  @Test(
    "an answer to another command is not taken", arguments: ["{\"return\": {}, \"id\": 99}", "{\"return\": {}}", "{}"])
  func otherAnswer(line: String) throws {
    let server = try ScriptedQmp { (request) in
      request.command == "qmp_capabilities" ? [request.answer()] : [.say(line + "\n")]
    }
    let connection = try connect(server)
    let error = #expect(throws: QmpError.self) { try connection.execute("stop") }
    guard case .unexpected(command: "stop", _) = error else { throw try #require(error) }
  }

  @Test("an answer that comes after its command was given up is not taken for the next one's")
  func late() throws {
    let server = try ScriptedQmp { (request) in
      switch request.command {
      case "stop": []
      // The first command is the one that asks for capabilities.
      case "cont": [.say("{\"return\": \"late\", \"id\": 2}\n"), request.answer(.text("mine"))]
      default: [request.answer()]
      }
    }
    let connection = try connect(server)
    #expect(throws: QmpError.stalled(command: "stop", limit: .milliseconds(20))) {
      try connection.execute("stop", within: .milliseconds(20))
    }
    #expect(try connection.execute("cont") == .text("mine"))
  }

  @Test("a QEMU that goes away is told with the command that it went on")
  func gone() throws {
    let server = try ScriptedQmp { (request) in
      request.command == "qmp_capabilities" ? [request.answer()] : [.dribble("{\"retu"), .close]
    }
    let connection = try connect(server)
    #expect(throws: QmpError.gone(command: "cont")) { try connection.execute("cont") }
  }
}
