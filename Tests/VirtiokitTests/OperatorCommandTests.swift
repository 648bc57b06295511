import Foundation
import Options
import Testing

@testable import virtiokit

@Suite("virtiokit: commands") struct OperatorCommandTests {
  @Test("a command is its words, however they are spaced")
  func words() throws {
    #expect(try OperatorCommand("balloon 512M") == .balloon(.mebibytes(512)))
    #expect(try OperatorCommand("  inflate\t0 ") == .inflate(ByteCount(bytes: 0)))
    #expect(try OperatorCommand("info balloon") == .info(asJSON: false))
    #expect(try OperatorCommand("info balloon --json\r") == .info(asJSON: true))
    #expect(try OperatorCommand("quit") == .quit)
  }

  @Test(
    "what is no command is refused, with the words that were not understood",
    arguments: ["", "explode", "Balloon 1M"])
  func unknown(line: String) {
    #expect(throws: CommandError.unknown(line)) { try OperatorCommand(line) }
  }

  @Test(
    "a command with other arguments than it has is refused, with its line of the help text",
    arguments: ["balloon", "balloon 1 2", "info", "help me"])
  func wrongArguments(line: String) throws {
    let name = try #require(line.split(separator: " ").first)
    let usage = try #require(OperatorCommand.helpText.split(separator: "\n").first { $0.hasPrefix(name) })
    let gap = try #require(usage.range(of: "  "))
    let sentence = usage[..<gap.lowerBound] + ": " + usage[gap.upperBound...].drop { $0 == " " }
    #expect(throws: CommandError.wrongArguments(String(sentence))) { try OperatorCommand(line) }
  }

  @Test("JSON is refused by name where a command has none, and an unknown command is not blamed on it")
  func json() {
    #expect(throws: CommandError.noJSON("statistics")) { try OperatorCommand("statistics --json") }
    #expect(throws: CommandError.noJSON("table")) { try NetOperatorCommand("table --json") }
    #expect(throws: CommandError.unknown("explode")) { try DiskCommand("explode --json") }
  }

  @Test("a size that makes no sense is refused", arguments: ["M", "-1", "1.2.3G", "99999999999999999999"])
  func sizes(word: String) {
    #expect(throws: CommandError.noSize(word)) { try OperatorCommand("balloon \(word)") }
  }

  @Test("the command that an answer advises is understood", arguments: [1 << 30, 1_000_000_001])
  func advice(bytes: UInt64) throws {
    let size = ByteCount(bytes: bytes)
    let answer = "\(CommandError.wouldShrink(size, from: .mebibytes(2048)))"
    let command = try #require(answer.split(separator: ", say ").last)
    #expect(try DiskCommand(String(command)) == .resize(size, mayShrink: true))
  }

  @Test("every command that the help lists is understood")
  func help() throws {
    for line in OperatorCommand.helpText.split(separator: "\n") {
      let example = line.prefix(23).replacing("SIZE", with: "1M").replacing("[--json]", with: "--json")
      _ = try OperatorCommand(String(example))
    }
  }

  @Test("an answer ends with a line that says whether it was done")
  func replies() {
    #expect(Reply.success("a\nb\n").text == "a\nb\nok\n")
    #expect(Reply.failure("no").text == "error: no\n")
  }
}

@Suite("virtiokit: lines") struct CommandLinesTests {
  @Test("lines are put together from pieces; empty ones are left out")
  func pieces() {
    var lines = CommandLines()
    #expect(lines.take(Array("hel".utf8)) == [])
    #expect(lines.take(Array("p\n\n  \ninfo balloon\nqu".utf8)) == ["help", "info balloon"])
    #expect(lines.take(Array("it\n".utf8)) == ["quit"])
  }

  @Test("a line that does not end is given up on")
  func endless() {
    var lines = CommandLines()
    #expect(lines.take([UInt8](repeating: 65, count: CommandLines.mostBytes)) == [])
    #expect(lines.take([65]) == nil)
  }
}

@Suite("virtiokit: JSON") struct JSONTests {
  @Test("values are written on one line, with what JSON forbids in strings escaped")
  func values() {
    let value = JSON.object([
      ("a", .null), ("b", .bool(true)), ("c", .number(.max)), ("d\"", .text("x\\y\n\u{1}é")), ("e", .object([])),
    ])
    let expected = #"{"a": null, "b": true, "c": 18446744073709551615, "d\"": "x\\y\u000a\u0001é", "e": {}}"#
    #expect(value.description == expected)
  }
}
