import Glibc
import GuestRAM
import LinuxIO
import Support
import Testing

@testable import Migration

@Suite("Migration: links") final class LinkTests {
  private let scratch: ScratchDirectory
  private var directory: String { scratch.path }

  init() throws {
    scratch = try ScratchDirectory()
  }

  /// Bytes that differ from those a buffer, a page or a power of two away.
  private func noise(_ count: Int) -> [UInt8] {
    var generator = SeededGenerator(seed: UInt64(count))
    let piece = generator.bytes(9973)
    var bytes: [UInt8] = []
    while bytes.count < count { bytes += piece }
    bytes.removeLast(bytes.count - count)
    return bytes
  }

  // MARK: - Bytes

  @Test("bytes larger than any buffer go both ways at once and arrive as they were", arguments: LinkKind.allCases)
  func bytes(kind: LinkKind) throws {
    let links = try kind.connect(in: directory)
    #expect(links.source.hasReturnPath && links.destination.hasReturnPath)
    let (there, back) = (noise(3_000_001), noise(2_000_003))
    let answering = try Thread(name: "there") {
      #expect(throws: Never.self) { try links.source.send(there, within: patience) }
    }
    let echoing = try Thread(name: "back") {
      #expect(throws: Never.self) { try links.destination.send(back, within: patience) }
    }
    #expect(try links.destination.receive(exactly: there.count, within: patience) == there)
    #expect(try links.source.receive(exactly: back.count, within: patience) == back)
    answering.join()
    echoing.join()
    try links.source.finish(within: patience)
    #expect(try links.destination.receive(exactly: 1, within: patience) == nil)
  }

  @Test("guest memory larger than any buffer is sent from its place to its place", arguments: LinkKind.allCases)
  func vectors(kind: LinkKind) throws {
    let links = try kind.connect(in: directory)
    let contents = noise(1 << 20)
    let (from, to) = (try GuestMemory(byteCount: 1 << 20), try GuestMemory(byteCount: 1 << 20))
    try from.write(bytes: contents, at: address(0))
    // Backwards, in pieces that no buffer's size is a multiple of.
    var buffers: [GuestBuffer] = []
    for start in stride(from: 0, to: 1 << 20, by: 5000).reversed() {
      buffers.append(GuestBuffer(address: address(UInt64(start)), byteCount: min(5000, (1 << 20) - start)))
    }
    let pieces = buffers
    let thread = try Thread(name: "source") {
      #expect(throws: Never.self) {
        var vectors = IOVectors(capacity: pieces.count)
        _ = try from.drain(pieces, using: &vectors) { (vectors) throws(LinuxError) in
          try links.source.send(vectors, within: patience)
          return vectors.totalByteCount
        }
      }
    }
    var vectors = IOVectors(capacity: pieces.count)
    let count = try to.fill(pieces, using: &vectors) { (vectors) throws(LinuxError) in
      try links.destination.receive(into: vectors, within: patience) ? vectors.totalByteCount : 0
    }
    thread.join()
    #expect(count == 1 << 20)
    #expect(try to.readBytes(1 << 20, at: address(0)) == contents)
  }

  // MARK: - Peers that vanish or stall

  @Test("a peer that sends nothing, or takes nothing, is a time-out", arguments: LinkKind.allCases)
  func stalled(kind: LinkKind) throws {
    let links = try kind.connect(in: directory)
    let error = try #require(throws: LinuxError.self) {
      _ = try links.source.receive(exactly: 1, within: .milliseconds(20))
    }
    #expect(error.isTimeOut)
    let bytes = [UInt8](repeating: 1, count: 64 << 20)
    let other = try #require(throws: LinuxError.self) { try links.source.send(bytes, within: .milliseconds(20)) }
    #expect(other.isTimeOut)
  }

  @Test("a peer that has gone is an end to reading and an error in writing, not a signal", arguments: LinkKind.allCases)
  func gone(kind: LinkKind) throws {
    let source: MigrationLink
    do {
      let links = try kind.connect(in: directory)
      try links.destination.send([1, 2, 3], within: patience)
      try links.destination.finish(within: patience)
      source = links.source
    }
    #expect(try source.receive(exactly: 2, within: patience) == [1, 2])
    let error = try #require(throws: LinuxError.self) { _ = try source.receive(exactly: 2, within: patience) }
    #expect(error.isPeerGone)
    #expect(try source.receive(exactly: 1, within: patience) == nil)
    let bytes = [UInt8](repeating: 1, count: 64 << 20)
    let other = try #require(throws: LinuxError.self) { try source.send(bytes, within: patience) }
    #expect(other.isPeerGone)
  }

  @Test("cancelling ends calls that wait, and every call after it", arguments: LinkKind.allCases)
  func cancelled(kind: LinkKind) throws {
    let cancellation = try Cancellation()
    let links = try kind.connect(in: directory, unless: cancellation)
    let started = try Eventfd()
    let (source, destination) = (links.source, links.destination)
    let receiving = try Thread(name: "receiving") {
      let error = #expect(throws: LinuxError.self) { _ = try source.receive(exactly: 1, within: patience) }
      #expect(error?.isCancellation == true)
    }
    let sending = try Thread(name: "sending") {
      let bytes = [UInt8](repeating: 1, count: 64 << 20)
      started.signal()
      let error = #expect(throws: LinuxError.self) { try source.send(bytes, within: patience) }
      #expect(error?.isCancellation == true)
    }
    _ = try started.descriptor.readBytes(exactly: 8)
    cancellation.cancel()
    receiving.join()
    sending.join()
    let error = #expect(throws: LinuxError.self) { try destination.send([1], within: patience) }
    #expect(error?.isCancellation == true)
  }

  @Test("cancelling ends the wait for a peer, and for a command")
  func cancelledWaits() throws {
    let cancellation = try Cancellation()
    let listener = try MigrationListener(.unix(path: "\(directory)/socket"), unless: cancellation)
    let link = try MigrationLink.connect(to: .command("exec sleep 1000"), within: patience, unless: cancellation)
    let waiting = try Thread(name: "accepting") {
      #expect(throws: MigrationError.cancelled) { _ = try listener.accept(within: patience) }
    }
    cancellation.cancel()
    waiting.join()
    #expect(throws: MigrationError.cancelled) { try link.finish(within: patience) }
  }

  // MARK: - Sockets

  @Test("a listener takes as many connections as come, each with its own peer", arguments: [LinkKind.unix, .tcp])
  func several(kind: LinkKind) throws {
    let listener = try MigrationListener(
      kind == .unix ? .unix(path: "\(directory)/socket") : .tcp(host: "127.0.0.1", port: 0))
    var sources: [MigrationLink] = []
    for index in 0..<4 {
      sources.append(try .connect(to: listener.address, within: patience))
      try sources[index].send([UInt8(index)], within: patience)
    }
    for index in 0..<4 {
      let link = try listener.accept(within: patience)
      #expect(try link.receive(exactly: 1, within: patience) == [UInt8(index)])
      try link.send([UInt8(100 + index)], within: patience)
      #expect(try sources[index].receive(exactly: 1, within: patience) == [UInt8(100 + index)])
    }
    #expect(throws: MigrationError.peerStalled) { _ = try listener.accept(within: .milliseconds(10)) }
  }

  @Test("a path is taken over from nobody, and left with the listener")
  func path() throws {
    let address = MigrationAddress.unix(path: "\(directory)/socket")
    do {
      let listener = try MigrationListener(address)
      let error = #expect(throws: MigrationError.self) { _ = try MigrationListener(address) }
      #expect(error?.description.contains("in use") == true)
      _ = listener
    }
    let error = #expect(throws: MigrationError.self) { _ = try MigrationLink.connect(to: address, within: patience) }
    #expect(error?.description.contains("No such file") == true)
    #expect(error?.description.contains(directory) == true)
  }

  @Test("nobody at a port, and a name that nobody has, are errors that name it")
  func nobody() throws {
    let port = try MigrationListener(.tcp(host: "127.0.0.1", port: 0)).address
    let error = #expect(throws: MigrationError.self) { _ = try MigrationLink.connect(to: port, within: patience) }
    #expect(error?.description.contains("refused") == true)
    #expect(error?.description.contains("127.0.0.1:") == true)
    let name = MigrationAddress.tcp(host: "nobody..invalid", port: 1)
    let other = #expect(throws: MigrationError.self) { _ = try MigrationLink.connect(to: name, within: patience) }
    #expect(other?.description.contains("nobody..invalid") == true)
  }

  // MARK: - Descriptors

  @Test("a descriptor that cannot carry a migration is refused with what it takes")
  func unsuitable() throws {
    let pipe = try FileDescriptor.pipe()
    let (reading, writing) = (try pipe.reading.duplicate().release(), try pipe.writing.duplicate().release())
    let error = #expect(throws: MigrationError.self) {
      _ = try MigrationLink.connect(to: .descriptors(input: writing, output: reading), within: patience)
    }
    #expect(error?.description.contains("to read from, then one to write to") == true)
    let unconnected = try Socket(.stream, for: .unix(path: "/a")).descriptor.duplicate().release()
    let messages = try Socket.pair(.datagram)
    let pipeAlone = try pipe.reading.duplicate().release()
    for number in [pipeAlone, unconnected, try messages.first.descriptor.duplicate().release()] {
      let error = #expect(throws: MigrationError.self) {
        _ = try MigrationLink.connect(to: .descriptor(number), within: patience)
      }
      #expect(error?.description.contains("connected stream socket") == true)
    }
    let closed = #expect(throws: MigrationError.self) {
      _ = try MigrationLink.connect(to: .descriptor(.max), within: patience)
    }
    #expect(closed?.description.contains("Bad file descriptor") == true)
  }

  // MARK: - Files

  @Test("a file is written, read back, and goes one way")
  func file() throws {
    let address = MigrationAddress.file(path: "\(directory)/guest")
    let bytes = noise(300_000)
    let writing = try MigrationLink.connect(to: address, within: patience)
    #expect(!writing.hasReturnPath)
    try writing.send(bytes, within: patience)
    try writing.finish(within: patience)
    #expect(try writing.receive(exactly: 1, within: patience) == nil)
    let listener = try MigrationListener(address)
    let reading = try listener.accept(within: patience)
    #expect(!reading.hasReturnPath)
    #expect(try reading.receive(exactly: 300_000, within: patience) == bytes)
    #expect(try reading.receive(exactly: 1, within: patience) == nil)
    #expect(throws: LinuxError(call: "writev", number: EPIPE)) { try reading.send([1], within: patience) }
    #expect(throws: MigrationError.onlyOneConnection(address)) { _ = try listener.accept(within: patience) }
  }

  @Test("a file that holds something is not overwritten unless that is said; an empty one is used")
  func overwriting() throws {
    let path = "\(directory)/guest"
    let address = MigrationAddress.file(path: path)
    try FileDescriptor.open(path, for: .writing, creating: .always).writeAll([])
    try MigrationLink.connect(to: address, within: patience).send([1, 2, 3], within: patience)
    #expect(throws: MigrationError.system(LinuxError(call: "open", subject: path, number: EEXIST))) {
      _ = try MigrationLink.connect(to: address, within: patience)
    }
    #expect(try FileDescriptor.open(path).readBytes(upTo: 9) == [1, 2, 3])
    try MigrationLink.connect(to: address, within: patience, overwriting: true).send([4], within: patience)
    #expect(try FileDescriptor.open(path).readBytes(upTo: 9) == [4])
  }

  @Test("a full device, a missing directory and a named pipe are errors, and nobody waits")
  func badFiles() throws {
    let full = try MigrationLink.connect(to: .file(path: "/dev/full"), within: patience)
    #expect(throws: LinuxError(call: "writev", number: ENOSPC)) { try full.send([1], within: patience) }
    let missing = MigrationAddress.file(path: "\(directory)/no/guest")
    #expect(throws: MigrationError.self) { _ = try MigrationLink.connect(to: missing, within: patience) }
    #expect(throws: MigrationError.self) { _ = try MigrationListener(missing) }
    let fifo = "\(directory)/fifo"
    try #require(ChildProcess.run("/bin/sh", ["-c", "mkfifo \(fifo)"]).end == .exit(0))
    let error = #expect(throws: MigrationError.self) { _ = try MigrationListener(.file(path: fifo)) }
    #expect(error?.description.contains("exec:cat") == true)
    #expect(throws: MigrationError.self) { _ = try MigrationLink.connect(to: .file(path: fifo), within: patience) }
  }

  // MARK: - Commands

  @Test("a command answers on its standard output, and ends with the link")
  func command() throws {
    let link = try MigrationLink.connect(to: .command("tr a-z A-Z; exit 0"), within: patience)
    try link.send(Array("guest".utf8), within: patience)
    try link.finish(within: patience)
    #expect(try link.receive(exactly: 5, within: patience) == Array("GUEST".utf8))
    #expect(try link.receive(exactly: 1, within: patience) == nil)
  }

  @Test("what a command was given before the link is let go of is delivered")
  func delivery() throws {
    let path = "\(directory)/delivered"
    do {
      let link = try MigrationLink.connect(
        to: .command("cat > \(path).part && mv \(path).part \(path)"), within: patience)
      try link.send([UInt8](repeating: 7, count: 200_000), within: patience)
    }
    #expect(try FileDescriptor.open(path).status.byteCount == 200_000)
  }

  @Test(
    "a command that fails is named with how it ended",
    arguments: [("exit 3", .exit(3)), ("/no/such/program 2>/dev/null", .exit(127)), ("kill -9 $$", .signal(9))]
      as [(String, ChildProcess.End)])
  func failing(command: String, end: ChildProcess.End) throws {
    let link = try MigrationLink.connect(to: .command(command), within: patience)
    #expect(try link.receive(exactly: 1, within: patience) == nil)
    #expect(throws: MigrationError.commandFailed(command, end)) { try link.finish(within: patience) }
    let memory = try GuestMemory(byteCount: 1 << 20)
    let moving = try MigrationLink.connect(to: .command(command), within: patience)
    let sent = outcome { () throws(MigrationError) in try Source(moving, producer: "").move(memory, state: []) }
    #expect(sent.error == .commandFailed(command, end))
    #expect(sent.error?.description.contains(end.description) == true)
  }

  @Test("a command that does not end is not waited for longer than was asked")
  func endless() throws {
    let cancellation = try Cancellation()
    let link = try MigrationLink.connect(
      to: .command("exec sleep 1000"), within: patience, unless: cancellation)
    #expect(throws: MigrationError.peerStalled) { try link.finish(within: .milliseconds(20)) }
    // It would be given time to end otherwise.
    cancellation.cancel()
  }
}
