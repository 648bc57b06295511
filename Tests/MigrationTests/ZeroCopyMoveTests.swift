import GuestRAM
import LinuxIO
import Testing

@testable import Migration

@Suite("Migration: without a copy") struct ZeroCopyMoveTests {
  /// Links over a port of this machine.
  private func links(_ count: Int) throws -> [LinkPair] {
    try (0..<count).map { _ in try LinkPair(listeningAt: .tcp(host: "127.0.0.1", port: 0)) }
  }

  /// Moves a guest over links, of which the first is the one that speaks.
  private func move(
    over links: [LinkPair], _ send: (consuming Source<MigrationLink>) throws(MigrationError) -> MigrationReport
  ) throws -> Move {
    let received = try Handover<Outcome<Move.Arrived>>()
    let thread = try Thread(name: "destination") {
      received.put(
        outcome { () throws(MigrationError) in
          var waiting = links.dropFirst().map(\.destination)
          var destination = Destination(links[0].destination, producer: "destination", limits: wideLimits)
          let guest = try destination.receive(accepting: { (_) throws(MigrationError) in
            guard !waiting.isEmpty else { throw .peerStalled }
            return waiting.removeFirst()
          })
          return Move.Arrived(guest: guest, report: try destination.confirm())
        })
    }
    let sent = outcome { () throws(MigrationError) in
      try send(
        Source(links[0].source, further: links.dropFirst().map(\.source), producer: "source", timeLimit: patience))
    }
    thread.join()
    return Move(source: sent, destination: received.wait())
  }

  private func total(_ report: ZeroCopyReport) -> UInt64 {
    report.uncopiedByteCount + report.copiedByteCount + report.refusedByteCount
  }

  @Test("all memory arrives as it is, and none of it is the kernel's any more", arguments: ZeroCopy.allCases, [1, 3])
  func wholeGuest(policy: ZeroCopy, connectionCount: Int) throws {
    let guest = try WideGuest()
    let moved = try move(over: links(connectionCount)) { (source) throws(MigrationError) in
      try source.move(guest.memory, state: guest.state, zeroCopy: policy)
    }
    let report = try moved.source.get()
    #expect(report.isVerified)
    #expect(try WideGuest.digests(moved.destination.get().guest.memory) == WideGuest.digests(guest.memory))
    let (inPlace, all) = (total(report.zeroCopies), report.dataPageCount * pageByteCount)
    switch policy {
    case .never: #expect(inPlace == 0)
    case .always: #expect(inPlace == all)
    // The kernel copies what stays on this machine, which turns it off.
    case .ifItHelps: #expect(report.zeroCopies.copiedByteCount > 0 && inPlace < all)
    }
  }

  @Test("of a guest that runs only the last pages go so, for which it stands still")
  func liveGuest() throws {
    let sample = try SampleGuest()
    let last = pages(0x40000 + 100, 40)
    var guest = ScriptedGuest(
      sample,
      [
        .init(ranges: [last]) { (memory) in
          try memory.write(bytes: [UInt8](repeating: 9, count: Int(last.byteCount)), at: last.start)
        }
      ])
    let moved = try move(over: links(1)) { (source) throws(MigrationError) in
      try source.move(&guest, policy: MigrationPolicy(downtimeLimit: .seconds(10), verifies: true, zeroCopy: .always))
    }
    let report = try moved.source.get()
    #expect(report.isVerified && report.dataPageCount > 300)
    #expect(total(report.zeroCopies) == last.byteCount)
    let arrived = try moved.destination.get().guest.memory
    #expect(try SampleGuest.contents(arrived) == SampleGuest.contents(sample.memory))
  }

  @Test(
    "over unix sockets nothing is copied, whether it may or must not be", arguments: [ZeroCopy.ifItHelps, .always],
    [1, 3])
  func local(policy: ZeroCopy, connectionCount: Int) throws {
    let scratch = try ScratchDirectory()
    let guest = try WideGuest()
    let links = try (0..<connectionCount).map { (_) in try LinkKind.unix.connect(in: scratch.path) }
    let moved = try move(over: links) { (source) throws(MigrationError) in
      try source.move(guest.memory, state: guest.state, zeroCopy: policy)
    }
    let report = try moved.source.get()
    #expect(report.isVerified)
    #expect(report.zeroCopies.uncopiedByteCount == report.dataPageCount * pageByteCount)
    #expect(try WideGuest.digests(moved.destination.get().guest.memory) == WideGuest.digests(guest.memory))
  }

  @Test(
    "a connection that cannot is refused by a source that must, before anything goes, and used by one that need not")
  func pipes() throws {
    let scratch = try ScratchDirectory()
    let guest = try SampleGuest()
    func link() throws -> [LinkPair] { [try LinkKind.pipes.connect(in: scratch.path)] }
    let refused = try move(over: link()) { (source) throws(MigrationError) in
      try source.move(guest.memory, state: guest.state, zeroCopy: .always)
    }
    let error = MigrationError.zeroCopyUnavailable("only TCP and unix sockets can")
    #expect(refused.source.error == error && error.sourceMayRun)
    #expect(refused.destination.error != nil)
    let moved = try move(over: link()) { (source) throws(MigrationError) in
      try source.move(guest.memory, state: guest.state, zeroCopy: .ifItHelps)
    }
    #expect(try total(moved.source.get().zeroCopies) == 0)
    #expect(try SampleGuest.contents(moved.destination.get().guest.memory) == SampleGuest.contents(guest.memory))
  }

  @Test("a connection that ends in the middle of it fails the move, and the guest may be written at once")
  func cut() throws {
    let guest = try WideGuest()
    let pair = try links(1)[0]
    let thread = try Thread(name: "destination") {
      _ = outcome { () throws(MigrationError) in
        var stream = FrameStream(pair.destination, limit: patience)
        try stream.open(Hello(.destination, producer: "destination"))
        _ = try stream.receiveHello()
        _ = try stream.receive(.description)
        try stream.send(.accept)
        _ = try stream.receiver.receiveBytes(3 << 20)
      }
      pair.destination.shutDown()
    }
    let sent = outcome { () throws(MigrationError) in
      try Source(pair.source, producer: "source", timeLimit: patience)
        .move(guest.memory, state: guest.state, zeroCopy: .always)
    }
    thread.join()
    #expect(sent.error == .peerGone)
    try guest.memory.discard(guest.memory.regions[0].range)
    #expect(try guest.memory.residentByteCount() == 0)
  }
}
