import Glibc
import GuestRAM
import LinuxIO
import Testing

@testable import Migration

@Suite("Migration: whole moves over links") final class LinkMoveTests {
  private let scratch: ScratchDirectory

  init() throws {
    scratch = try ScratchDirectory()
  }

  /// Moves a guest from this thread to another one, which accepts the connection itself.
  private func move(
    _ guest: SampleGuest, from address: MigrationAddress, to listener: MigrationListener
  ) throws -> Move {
    let received = try Handover<Outcome<Move.Arrived>>()
    let thread = try Thread(name: "destination") {
      received.put(
        outcome { () throws(MigrationError) in
          let link = try listener.accept(within: patience)
          var destination = Destination(link, producer: "destination", limits: limits)
          let guest = try destination.receive()
          return Move.Arrived(guest: guest, report: try destination.confirm())
        })
    }
    let sent = outcome { () throws(MigrationError) in
      let link = try MigrationLink.connect(to: address, within: patience)
      return try Source(link, producer: "source", timeLimit: patience).move(guest.memory, state: guest.state)
    }
    thread.join()
    return Move(source: sent, destination: received.wait())
  }

  private func check(_ move: Move, _ guest: SampleGuest) throws {
    let source = try move.source.get()
    let arrived = try move.destination.get()
    #expect(source.isVerified && arrived.report.acknowledgementError == nil)
    #expect(arrived.guest.state == guest.state)
    #expect(try SampleGuest.contents(arrived.guest.memory) == SampleGuest.contents(guest.memory))
  }

  @Test("a guest moves over a port", arguments: ["127.0.0.1", "localhost"])
  func tcp(host: String) throws {
    let guest = try SampleGuest()
    let listener = try MigrationListener(.tcp(host: host, port: 0))
    try check(move(guest, from: listener.address, to: listener), guest)
  }

  @Test("a guest moves over a port of IPv6", .enabled(if: hasIPv6))
  func tcp6() throws {
    let guest = try SampleGuest()
    let listener = try MigrationListener(MigrationAddress("tcp:[::1]:0"))
    #expect(listener.address.description.hasPrefix("tcp:[::1]:"))
    try check(move(guest, from: MigrationAddress(listener.address.description), to: listener), guest)
  }

  @Test("a guest moves over a path")
  func unix() throws {
    let guest = try SampleGuest()
    let listener = try MigrationListener(.unix(path: "\(scratch.path)/socket"))
    try check(move(guest, from: listener.address, to: listener), guest)
  }

  @Test("a guest moves over two commands and the pipes between them")
  func commands() throws {
    let guest = try SampleGuest()
    let (there, back) = ("\(scratch.path)/there", "\(scratch.path)/back")
    try #require(ChildProcess.run("/bin/sh", ["-c", "mkfifo \(there) \(back)"]).end == .exit(0))
    let listener = try MigrationListener(
      .command("exec 3<\(there) 4>\(back); cat <&3 3<&- 4>&- & exec >&4 3<&- 4>&-; exec cat"))
    let source = MigrationAddress.command("exec 3>\(there) 4<\(back); cat <&4 3>&- 4<&- & exec >&3 3>&- 4<&-; exec cat")
    try check(move(guest, from: source, to: listener), guest)
  }

  @Test("a guest moves through a shell that connects to where the destination listens", .enabled(if: hasSocat))
  func throughCommand() throws {
    let guest = try SampleGuest()
    let path = "\(scratch.path)/socket"
    let listener = try MigrationListener(.unix(path: path))
    try check(move(guest, from: MigrationAddress("exec:exec socat - UNIX-CONNECT:\(path)"), to: listener), guest)
  }

  @Test("a command that cannot reach the destination leaves the guest, and is named", .enabled(if: hasSocat))
  func unreachable() throws {
    let guest = try SampleGuest()
    let command = "exec socat - UNIX-CONNECT:\(scratch.path)/nobody 2>/dev/null"
    let link = try MigrationLink.connect(to: .command(command), within: patience)
    let sent = outcome { () throws(MigrationError) in
      try Source(link, producer: "").move(guest.memory, state: guest.state)
    }
    #expect(sent.error == .commandFailed(command, .exit(1)))
    #expect(sent.error?.sourceMayRun == true)
  }

  @Test("a source that is cancelled keeps its guest")
  func cancelled() throws {
    let guest = try SampleGuest()
    let listener = try MigrationListener(.unix(path: "\(scratch.path)/socket"))
    let cancellation = try Cancellation()
    let link = try MigrationLink.connect(to: listener.address, within: patience, unless: cancellation)
    let peer = try listener.accept(within: patience)
    let thread = try Thread(name: "operator") {
      // The source waits for an answer to what has come.
      #expect(throws: Never.self) { _ = try peer.receive(exactly: 20, within: patience) }
      cancellation.cancel()
    }
    let sent = outcome { () throws(MigrationError) in
      try Source(link, producer: "").move(guest.memory, state: guest.state)
    }
    thread.join()
    #expect(sent.error == .cancelled)
    #expect(sent.error?.sourceMayRun == true)
  }
}

/// Without it the tests that need a program which connects a standard stream to a socket are shown as skipped.
private let hasSocat = (try? ChildProcess.run("/bin/sh", ["-c", "command -v socat"]).end) == .exit(0)

/// A machine may have no addresses of that version.
private let hasIPv6 = (try? MigrationListener(.tcp(host: "::1", port: 0))) != nil
