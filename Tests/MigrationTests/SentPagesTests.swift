import GuestRAM
import LinuxIO
import Support
import Testing

@testable import Migration

/// A guest whose writes nobody tells of: a test makes them whenever it likes.
private struct UnwatchedGuest: LiveGuest {
  let memory: GuestMemory
  let sentPages: SentPages?
  /// Before the engine looks for writes: how often it has.
  var beforeLook: (Int) throws(MigrationError) -> Void = { _ in }
  private var lookCount = 0

  init(_ memory: GuestMemory) {
    self.memory = memory
    sentPages = SentPages(memory)
  }

  mutating func beginTracking() throws(MigrationError) {}

  mutating func takeWrites() throws(MigrationError) -> [GuestRange] {
    lookCount += 1
    try beforeLook(lookCount)
    return try sentPages?.takeWrites() ?? []
  }

  mutating func endTracking() {}
  mutating func pause() throws(MigrationError) -> [UInt8] { [7] }
  mutating func resume() {}
}

@Suite("Migration: writes found by comparing with what was sent") struct SentPagesTests {
  private static func fill(_ memory: GuestMemory, _ page: UInt64, with byte: UInt8) throws(MigrationError) {
    try inGuestMemory { () throws(GuestMemoryError) in
      try memory.write(bytes: [UInt8](repeating: byte, count: Int(pageByteCount)), at: address(page * pageByteCount))
    }
  }

  private static func discard(_ memory: GuestMemory, _ page: UInt64) throws(MigrationError) {
    try inGuestMemory { () throws(GuestMemoryError) in try memory.discard(pages(page, 1)) }
  }

  /// Moves a guest of 16 pages; `look` is called before each look for writes, `pass` between that and the sending.
  private func move(
    _ policy: MigrationPolicy = MigrationPolicy(downtimeLimit: .zero, verifies: true),
    look: @escaping (GuestMemory, Int) throws(MigrationError) -> Void,
    pass: (GuestMemory, Int) throws(MigrationError) -> Void = { (_, _) in }
  ) throws -> (memory: GuestMemory, arrived: GuestMemory, report: MigrationReport) {
    let memory = try GuestMemory(byteCount: 16 * pageByteCount)
    for page in 0..<8 as Range<UInt64> { try Self.fill(memory, page, with: UInt8(page + 1)) }
    var guest = UnwatchedGuest(memory)
    guest.beforeLook = { (count) throws(MigrationError) in try look(memory, count) }
    let (links, received) = (try TestLinks(), try Handover<Outcome<ArrivedGuest>>())
    let thread = try Thread(name: "destination") {
      received.put(
        outcome { () throws(MigrationError) in
          var destination = Destination(links.destination, producer: "destination", limits: limits)
          let guest = try destination.receive()
          _ = try destination.confirm()
          return guest
        })
      links.destination.shutDown()
    }
    var failure: MigrationError?
    let report = outcome { () throws(MigrationError) in
      try Source(links.source, producer: "source", timeLimit: limits.time).move(&guest, policy: policy) { (event) in
        guard case .pass(let number, _) = event else { return }
        do throws(MigrationError) { try pass(memory, number) } catch { failure = error }
      }
    }
    links.source.shutDown()
    thread.join()
    if let failure { throw failure }
    return (memory, try received.wait().get().memory, try report.get())
  }

  private func check(_ move: (memory: GuestMemory, arrived: GuestMemory, report: MigrationReport)) throws {
    for page in 0..<16 as Range<UInt64> {
      let place = address(page * pageByteCount)
      let bytes = Int(pageByteCount)
      #expect(try move.arrived.readBytes(bytes, at: place) == move.memory.readBytes(bytes, at: place), "page \(page)")
    }
    #expect(move.report.isVerified)
  }

  @Test("a page that changes between the look and the sending, and then back, is sent again", arguments: [false, true])
  func changesBack(compresses: Bool) throws {
    let policy = MigrationPolicy(downtimeLimit: .zero, compresses: compresses, verifies: true)
    let move = try move(
      policy,
      look: { (memory, count) throws(MigrationError) in
        // Looked at as 0xB0, sent as 0xC0, and 0xB0 again when it is looked at next.
        if count <= 2 { try Self.fill(memory, 3, with: 0xB0) }
      },
      pass: { (memory, number) throws(MigrationError) in
        if number == 1 { try Self.fill(memory, 3, with: 0xC0) }
      })
    try check(move)
    #expect(move.report.passes.map(\.remainingByteCount) == [pageByteCount, pageByteCount, 0])
  }

  @Test("a page that is given back, and one that gets memory only now, are found")
  func comesAndGoes() throws {
    let move = try move(look: { (memory, count) throws(MigrationError) in
      if count == 1 {
        try Self.discard(memory, 2)
        try Self.fill(memory, 12, with: 9)
      }
    })
    // Asked before anything is read: reading would give it memory.
    #expect(try move.arrived.residentRanges().allSatisfy { $0.overlap(pages(2, 1)) == nil })
    try check(move)
    #expect(move.report.passes.first?.remainingByteCount == 2 * pageByteCount)
  }

  @Test("what was seen before the first page went says nothing of what the destination has")
  func beforeTheFirst() throws {
    // The two looks of the forecast see page 5; it is gone in the first pass, and back afterwards as it was.
    let policy = MigrationPolicy(downtimeLimit: .zero, forecasts: true, verifies: true)
    let move = try move(
      policy,
      look: { (memory, count) throws(MigrationError) in
        if count == 2 {
          _ = try SentPages(memory).takeWrites()
          try Self.discard(memory, 5)
        }
        if count == 3 { try Self.fill(memory, 5, with: 6) }
      })
    try check(move)
  }

  @Test("before anything is sent it tells what has changed since the last look, and nothing twice")
  func looks() throws {
    let memory = try GuestMemory(byteCount: 16 * pageByteCount)
    let sent = SentPages(memory)
    #expect(try sent.takeWrites().isEmpty)
    for page in [4, 5, 9] as [UInt64] { try Self.fill(memory, page, with: 1) }
    #expect(try sent.takeWrites() == [pages(4, 2), pages(9, 1)])
    #expect(try sent.takeWrites().isEmpty)
    try Self.discard(memory, 9)
    #expect(try sent.takeWrites() == [pages(9, 1)])
    #expect(try memory.residentRanges() == [pages(4, 2)])
  }

  @Test("the engine's passes leave no page that differs, whatever is written between them")
  func random() throws {
    var generator = SeededGenerator(for: "writes found by comparing")
    for round in 0..<40 {
      var seed = SeededGenerator(seed: generator.next())
      func change(_ memory: GuestMemory) throws(MigrationError) {
        for _ in 0..<Int.random(in: 0...4, using: &seed) {
          let page = UInt64.random(in: 0..<16, using: &seed)
          // So few contents that they come back all the time.
          let byte = UInt8.random(in: 0...3, using: &seed)
          if byte == 3 { try Self.discard(memory, page) } else { try Self.fill(memory, page, with: byte) }
        }
      }
      let policy = MigrationPolicy(
        downtimeLimit: .zero, mostPasses: 6, stopsAnyway: true, compresses: round % 2 == 1, verifies: true)
      let move = try move(
        policy, look: { (memory, count) throws(MigrationError) in if count < 7 { try change(memory) } },
        pass: { (memory, _) throws(MigrationError) in try change(memory) })
      try check(move)
      #expect(move.report.isVerified, "VIRTIOKIT_SEED=\(generator.seed), round \(round)")
    }
  }
}
