import LinuxIO
import Options
import Testing
import VirtioNet

@testable import virtiokit

private func parse(_ words: [String]) throws -> NetCommand {
  guard case .run(let command) = try NetCommand.parse(words, program: "p") else { throw OptionError.missingOperand("") }
  return command
}

@Suite("virtiokit: what a card is plugged into") struct PortAddressTests {
  @Test(
    "every kind of port is read, and written as it was",
    arguments: [
      "tap:vm0", "fd:3", "packet:eth0", "stream:/run/a.sock", "stream:host:1234", "stream:[::1]:1", "listen:a.sock",
      "dgram:127.0.0.1:1,127.0.0.1:2", "switch", "loopback", "sink", "source",
    ])
  func kinds(text: String) throws {
    #expect(try #require(PortAddress(optionText: text)).optionText == text)
  }

  @Test(
    "what names no port is refused: nothing behind the kind, something behind one that takes nothing, no address",
    arguments: [
      "", "tap", "tap:", "fd:2", "fd:-1", "fd:x", "packet:", "switch:", "switch:1", "loopback:a", "TAP:a", "stream:",
      "stream::1", "listen:127.0.0.1:port", "listen:127.0.0.1:65536", "dgram:a", "dgram:a,", "dgram:a,b,c", "dgram:a,a",
    ])
  func others(text: String) {
    #expect(PortAddress(optionText: text) == nil)
  }

  @Test("a path is refused from 108 bytes on, which no socket can have")
  func longPaths() {
    let longest = "/" + String(repeating: "a", count: 106)
    #expect(PortAddress(optionText: "stream:\(longest)") == .stream(longest))
    #expect(PortAddress(optionText: "stream:\(longest)a") == nil)
  }
}

@Suite("virtiokit: options of network cards") struct NetCommandTests {
  @Test(
    "options that go together are taken",
    arguments: [
      ["--socket-path", "a"], ["--fd", "5", "--port", "tap:vm0"], ["--print-capabilities"],
      ["--socket-path", "a", "--socket-path", "b", "--uplink", "tap:vm0", "--vlan", "1", "--vlan", "4094"],
      ["--socket-path", "a", "--mac", "52:54:00:12:34:56", "--queue-pairs", "128", "--queue-size", "32768"],
      ["--socket-path", "a", "--port", "tap:vm0", "--queue-pairs", "2", "--pair-threads", "always"],
      ["--socket-path", "a", "--pair-threads", "never"],
      ["--socket-path", "a", "--mtu", "1280", "--poll", "1ms", "--packet-rate", "0", "--bandwidth", "0"],
    ])
  func accepted(words: [String]) throws {
    _ = try parse(words)
  }

  @Test(
    "values out of range, and options that do not go together, are refused by the option's name",
    arguments: [
      ("--port", ["--socket-path", "a", "--socket-path", "b", "--port", "tap:vm0"]),
      ("--socket-path", ["--socket-path", "a", "--socket-path", "b", "--socket-path", "b"]),
      ("--control", ["--socket-path", "a", "--control", "a"]), ("--fd", ["--fd", "2"]),
      ("--fd", ["--socket-path", "a", "--fd", "5"]), ("--uplink", ["--fd", "5", "--uplink", "switch"]),
      ("--uplink", ["--fd", "5", "--port", "sink", "--uplink", "tap:a"]),
      ("--mac", ["--fd", "5", "--mac", "01:00:00:00:00:00"]),
      ("--mac", ["--fd", "5", "--mac", "02:00:00:00:00:00", "--mac", "02:00:00:00:00:01"]),
      (
        "--mac",
        ["--socket-path", "a", "--socket-path", "b", "--mac", "02:00:00:00:00:01", "--mac", "02:00:00:00:00:01"]
      ),
      ("--vlan", ["--fd", "5", "--vlan", "0"]), ("--vlan", ["--fd", "5", "--vlan", "4095"]),
      ("--vlan", ["--fd", "5", "--vlan", "1", "--port", "loopback"]),
      ("--queue-pairs", ["--fd", "5", "--queue-pairs", "0"]),
      ("--queue-pairs", ["--fd", "5", "--queue-pairs", "2", "--no-control"]),
      ("--pair-threads", ["--fd", "5", "--queue-pairs", "2", "--pair-threads", "always"]),
      ("--queue-size", ["--fd", "5", "--queue-size", "3"]), ("--queue-size", ["--fd", "5", "--queue-size", "65536"]),
      ("--mtu", ["--fd", "5", "--mtu", "1279"]), ("--speed", ["--fd", "5", "--speed", "-1"]),
      ("--poll", ["--fd", "5", "--poll", "2ms"]), ("--packet-rate", ["--fd", "5", "--packet-rate", "-1"]),
    ])
  func refused(option: String, words: [String]) {
    let error = #expect(throws: OptionError.self) { try parse(words) }
    guard case .rejected(option, _, _) = error else {
      Issue.record("\(option) is not what is refused: \(String(describing: error))")
      return
    }
  }

  @Test("threads for pairs are there when asked for, or by themselves for several pairs with processors to spare")
  func pairThreads() {
    #expect(PairThreads.always.areWanted(pairCount: 1, processorCount: 1))
    #expect(!PairThreads.never.areWanted(pairCount: 128, processorCount: 128))
    for (pairs, processors, areWanted) in [(1, 64, false), (2, 2, false), (2, 3, true), (128, 4, true)] {
      #expect(PairThreads.auto.areWanted(pairCount: pairs, processorCount: processors) == areWanted)
    }
  }

  @Test("a limit of 0 is none, on the command line and in a command alike")
  func noLimit() throws {
    let command = try parse(["--fd", "5", "--packet-rate", "0", "--bandwidth", "0"])
    #expect(command.packetRates == PacketRates())
    #expect(PacketRates(eachWay: 0, bytes: 0) == PacketRates())
    #expect(PacketRates(eachWay: 7, bytes: 9).outgoing.packets == TokenBucket.Rate(perSecond: 7))
  }
}

@Suite("virtiokit: options of sockets, for every device") struct SocketOptionsTests {
  static let longest = String(repeating: "a", count: 107)

  @Test("a path that no socket can have, empty or over 107 bytes, is refused before anything is opened")
  func paths() throws {
    _ = try parse(["--socket-path", Self.longest])
    for path in ["", Self.longest + "a"] {
      for words in [["--socket-path", path], ["--socket-path", "x", "--control", path]] {
        #expect(throws: OptionError.self) { try parse(words) }
        #expect(throws: OptionError.self) { try BlkCommand.parse(words + ["--memory", "1M"], program: "p") }
        #expect(throws: OptionError.self) { try BalloonCommand.parse(words, program: "p") }
      }
      #expect(throws: OptionError.self) { try ControlCommand.parse(["--control", path, "help"], program: "p") }
    }
  }

  @Test("ctl refuses a command without words, for which a device would never answer", arguments: ["", " \t"])
  func noCommand(word: String) {
    #expect(throws: OptionError.missingOperand("COMMAND")) {
      try ControlCommand.parse(["--control", "x", word], program: "p")
    }
  }

  @Test(
    "blk refuses options that would do nothing, and two disks",
    arguments: [
      ["--memory", "1G", "--direct"], ["--null", "1G", "--format", "raw"], ["--image", "a", "--connections", "2"],
      ["--image", "a", "--format", "qcow2", "--direct"], ["--image", "nbd://a/b", "--format", "qcow2"],
      ["--memory", "1G", "--null", "1G"], ["--image", "a", "--memory", "1G"], ["--image", ""], [],
      ["--memory", "1G", "--overlay", "b"],
    ])
  func disks(words: [String]) {
    #expect(throws: OptionError.self) { try BlkCommand.parse(["--socket-path", "s"] + words, program: "p") }
  }

  @Test("blk is told that a server's disk is raw, which it is, so that one command line serves images and servers")
  func rawServer() throws {
    _ = try BlkCommand.parse(["--socket-path", "s", "--image", "nbd://a/b", "--format", "raw"], program: "p")
  }
}
