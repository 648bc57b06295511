import GuestRAM
import LinuxIO
import Support
import Testing

@testable import Migration

/// A directory that is removed with its value.
struct ScratchDirectory: ~Copyable {
  let path: String

  init() throws {
    let made = try ChildProcess.run("/bin/sh", ["-c", "mktemp -d"])
    try #require(made.end == .exit(0))
    path = String(decoding: made.output.dropLast(), as: UTF8.self)
  }

  deinit {
    _ = try? ChildProcess.run("/bin/rm", ["-rf", path])
  }
}

let patience = Duration.seconds(20)

/// Two links that are connected to each other.
struct LinkPair: Sendable {
  let source: MigrationLink
  let destination: MigrationLink

  init(source: MigrationLink, destination: MigrationLink) {
    self.source = source
    self.destination = destination
  }

  /// Over a socket, from listening to accepting.
  init(listeningAt address: MigrationAddress, unless cancellation: Cancellation? = nil) throws {
    let listener = try MigrationListener(address, unless: cancellation)
    source = try .connect(to: listener.address, within: patience, unless: cancellation)
    destination = try listener.accept(within: patience)
  }

  /// Over what needs no socket that listens.
  init(
    from source: MigrationAddress, to destination: MigrationAddress, unless cancellation: Cancellation? = nil
  ) throws {
    self.source = try .connect(to: source, within: patience, unless: cancellation)
    self.destination = try MigrationListener(destination, unless: cancellation).accept(within: patience)
  }
}

enum LinkKind: CaseIterable, Sendable {
  case unix, tcp, name, descriptor, pipes, commands

  func connect(in directory: String, unless cancellation: Cancellation? = nil) throws -> LinkPair {
    switch self {
    case .unix: try LinkPair(listeningAt: .unix(path: "\(directory)/socket"), unless: cancellation)
    case .tcp: try LinkPair(listeningAt: .tcp(host: "127.0.0.1", port: 0), unless: cancellation)
    case .name: try LinkPair(listeningAt: .tcp(host: "localhost", port: 0), unless: cancellation)
    case .descriptor: try Self.overDescriptors(unless: cancellation)
    case .pipes: try Self.overPipes(unless: cancellation)
    case .commands: try Self.overCommands(in: directory, unless: cancellation)
    }
  }

  /// As if this process had been started with the descriptors.
  private static func overDescriptors(unless cancellation: Cancellation?) throws -> LinkPair {
    let pair = try Socket.pair(.stream)
    return try LinkPair(
      from: .descriptor(pair.first.descriptor.duplicate().release()),
      to: .descriptor(pair.second.descriptor.duplicate().release()), unless: cancellation)
  }

  private static func overPipes(unless cancellation: Cancellation?) throws -> LinkPair {
    let there = try FileDescriptor.pipe()
    let back = try FileDescriptor.pipe()
    return try LinkPair(
      from: .descriptors(input: back.reading.duplicate().release(), output: there.writing.duplicate().release()),
      to: .descriptors(input: there.reading.duplicate().release(), output: back.writing.duplicate().release()),
      unless: cancellation)
  }

  /// Two commands that carry bytes between named pipes. Each opens the same pipe first, or both would wait for ever, and
  /// each direction ends by itself.
  private static func overCommands(in directory: String, unless cancellation: Cancellation?) throws -> LinkPair {
    let (there, back) = ("\(directory)/there", "\(directory)/back")
    try #require(ChildProcess.run("/bin/sh", ["-c", "mkfifo \(there) \(back)"]).end == .exit(0))
    return try LinkPair(
      from: .command("exec 3>\(there) 4<\(back); cat <&4 3>&- 4<&- & exec >&3 3>&- 4<&-; exec cat"),
      to: .command("exec 3<\(there) 4>\(back); cat <&3 3<&- 4>&- & exec >&4 3<&- 4>&-; exec cat"),
      unless: cancellation)
  }
}
