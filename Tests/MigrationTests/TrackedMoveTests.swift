import GuestRAM
import LinuxIO
import Support
import Testing

@testable import Migration

@Suite("Migration: a guest that writes all the time", .serialized)
struct TrackedMoveTests {
  /// The ways to find what it writes, of which comparing (nil) works everywhere.
  private static let ways: [WriteTracker.Method?] = WriteTracker.available + [nil]

  /// Moves a guest over a pair of sockets; `watch` may call it off.
  private func move(
    _ guest: WritingGuest, _ policy: MigrationPolicy, unless cancellation: Cancellation? = nil,
    watch: (MigrationEvent) -> Void = { _ in }
  ) throws -> Move {
    let links = try LinkKind.descriptor.connect(in: "", unless: cancellation)
    let (destinationLink, received) = (links.destination, try Handover<Outcome<Move.Arrived>>())
    let thread = try Thread(name: "destination") {
      received.put(
        outcome { () throws(MigrationError) in
          var destination = Destination(destinationLink, producer: "destination", limits: limits)
          let guest = try destination.receive()
          return Move.Arrived(guest: guest, report: try destination.confirm())
        })
    }
    var guest = guest
    let sent: Outcome<MigrationReport>
    do throws(MigrationError) {
      sent = .success(
        try Source(links.source, producer: "source", timeLimit: patience)
          .move(&guest, policy: policy, unless: cancellation, events: watch))
    } catch {
      sent = .failure(error)
    }
    thread.join()
    return Move(source: sent, destination: received.wait())
  }

  private func checkSame(_ arrived: GuestMemory, _ memory: GuestMemory, _ what: Comment) throws {
    // Asked before anything is read: reading would give it memory.
    let resident = try arrived.residentPages()
    for range in WritingGuest.regions {
      let expected = try memory.readBytes(Int(range.byteCount), at: range.start)
      #expect(try arrived.readBytes(Int(range.byteCount), at: range.start) == expected, what)
    }
    for range in resident {
      for offset in stride(from: 0, to: range.byteCount, by: Int(pageByteCount)) {
        let page = GuestRange(start: address(range.start.rawValue + offset), byteCount: pageByteCount)
        #expect(try !memory.isZero(page), "\(what): memory for nothing at \(page.start)")
      }
    }
  }

  @Test("what arrives is the memory of the stopped guest, byte by byte", arguments: ways)
  func arrives(_ method: WriteTracker.Method?) throws {
    var generator = SeededGenerator(for: "what arrives of a guest that writes")
    for round in 0..<25 {
      let guest = try WritingGuest(method, seed: generator.next())
      defer { guest.end() }
      let policy = MigrationPolicy(
        downtimeLimit: .milliseconds(1), mostBytesPerSecond: round % 5 == 4 ? 40 << 20 : nil,
        mostPasses: .random(in: 1...8, using: &generator), slowsDown: true, stopsAnyway: true,
        compresses: round % 2 == 1, forecasts: round % 8 == 7)
      let move = try move(guest, policy)
      let what: Comment = "VIRTIOKIT_SEED=\(generator.seed), round \(round)"
      try checkSame(#require(move.destination.value, what).guest.memory, guest.memory, what)
      let (source, destination) = (try move.source.get(), try move.destination.get().report)
      #expect(source.dataPageCount == destination.dataPageCount, what)
      #expect(source.zeroPageCount == destination.zeroPageCount, what)
      #expect(source.passCount == destination.passCount && source.passCount == source.passes.count, what)
    }
  }

  @Test(
    "a guest whose move is called off works on at its full speed, whenever that was", arguments: ways)
  func calledOff(_ method: WriteTracker.Method?) throws {
    var generator = SeededGenerator(for: "calling off")
    for last in 1...6 {
      let guest = try WritingGuest(method, seed: generator.next())
      defer { guest.end() }
      let cancellation = try Cancellation()
      let policy = MigrationPolicy(downtimeLimit: .zero, mostPasses: 5, slowsDown: true, stopsAnyway: true)
      let move = try move(guest, policy, unless: cancellation) { (event) in
        if case .pass(last, _) = event { cancellation.cancel() }
        if event == .stopping { cancellation.cancel() }
      }
      #expect(move.source.error == .cancelled, "VIRTIOKIT_SEED=\(generator.seed), pass \(last)")
      #expect(move.destination.error != nil && guest.share == 1)
      try guest.waitForRounds(3)
    }
  }
}
