import GuestRAM
import LinuxIO
import Support
import Testing

@testable import Migration

/// A connection that tells before it sends a frame.
private final class ToldLink: Channel {
  private let link: MigrationLink
  private let tell: @Sendable (FrameKind) -> Void

  init(_ link: MigrationLink, tell: @escaping @Sendable (FrameKind) -> Void) {
    self.link = link
    self.tell = tell
  }

  func send(_ bytes: [UInt8], within limit: Duration) throws(LinuxError) {
    if let kind = bytes.first.flatMap({ FrameKind(rawValue: UInt16($0)) }) { tell(kind) }
    try link.send(bytes, within: limit)
  }

  func send(_ vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) {
    try link.send(vectors, within: limit)
  }

  func receive(exactly byteCount: Int, within limit: Duration) throws(LinuxError) -> [UInt8]? {
    try link.receive(exactly: byteCount, within: limit)
  }

  func receive(into vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) -> Bool {
    try link.receive(into: vectors, within: limit)
  }

  func waitUntilReadable(within limit: Duration) throws(LinuxError) -> Bool {
    try link.waitUntilReadable(within: limit)
  }

  func outliveCancellation() -> Bool { link.outliveCancellation() }
}

@Suite("Migration: calling off over a connection that is called off with it") final class CallingOffTests {
  private let scratch: ScratchDirectory

  init() throws { scratch = try ScratchDirectory() }

  /// Moves a guest, each side of which can be called off.
  /// - Parameters:
  ///   - source: told of a frame before the source sends it, with what calls both sides off.
  ///   - destination: likewise.
  private func move(
    source: @escaping @Sendable (FrameKind, Cancellation, Cancellation) -> Void = { _, _, _ in },
    destination: @escaping @Sendable (FrameKind, Cancellation, Cancellation) -> Void = { _, _, _ in },
    arrived: @escaping @Sendable (Cancellation) -> Void = { _ in }
  ) throws -> Move {
    let (here, there) = (try Cancellation(), try Cancellation())
    let listener = try MigrationListener(.unix(path: "\(scratch.path)/socket"), unless: there)
    let link = try MigrationLink.connect(to: listener.address, within: patience, unless: here)
    let peer = try listener.accept(within: patience)
    let received = try Handover<Outcome<Move.Arrived>>()
    let thread = try Thread(name: "destination") {
      received.put(
        outcome { () throws(MigrationError) in
          let link = ToldLink(peer) { destination($0, here, there) }
          var destination = Destination(link, producer: "destination", limits: limits)
          let guest = try destination.receive()
          arrived(here)
          return Move.Arrived(guest: guest, report: try destination.confirm())
        })
    }
    let guest = try SampleGuest()
    let sent = outcome { () throws(MigrationError) in
      try Source(ToldLink(link) { source($0, here, there) }, producer: "source", timeLimit: patience)
        .move(guest.memory, state: guest.state)
    }
    thread.join()
    return Move(source: sent, destination: received.wait())
  }

  @Test("once the destination decides nobody calls a move off, on neither side")
  func tooLate() throws {
    // The source waits for the word that the guest has been taken, the destination for the one that it may be.
    for move in [
      try move(destination: { (kind, here, _) in if kind == .committed { here.cancel() } }),
      try move(source: { (kind, _, there) in if kind == .commit { there.cancel() } }),
    ] {
      #expect(move.source.value != nil, "\(move.source)")
      #expect(move.destination.value != nil, "\(move.destination)")
    }
  }

  @Test("before that it leaves the guest with the source, and the other side learns that it was called off")
  func inTime() throws {
    let ended = MigrationError.peerFailed(MigrationError.cancelled.description)
    let bySource = try move(arrived: { (here) in here.cancel() })
    #expect(bySource.source.error == .cancelled)
    #expect(bySource.destination.error == ended)
    let byDestination = try move(source: { (kind, _, there) in if kind == .complete { there.cancel() } })
    #expect(byDestination.destination.error == .cancelled)
    #expect(byDestination.source.error == ended)
  }
}
