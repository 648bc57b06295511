import GuestRAM
import LinuxIO
import Support
import Testing

@testable import Migration

private let badLayouts: [[GuestRange]] = [
  [pages(0, 4), pages(3, 4)],
  [pages(8, 4), pages(0, 4)],
  [pages(0, 0)],
  [GuestRange(start: address(0), byteCount: 100)],
  [GuestRange(start: address(7), byteCount: 4096)],
  [GuestRange(start: address(0), byteCount: .max)],
  [GuestRange(start: address(.max - 4095), byteCount: 4096)],
  [GuestRange(start: address(0), byteCount: 1 << 63)],
  (0..<513).map { pages($0, 1) },
]

@Suite("Migration: hostile streams") struct HostileStreamTests {
  /// Feeds a destination what the body sends, and returns what the destination says.
  private func receive(
    _ body: (inout FrameStream<TestLink>) throws(MigrationError) -> Void
  ) throws -> Outcome<ArrivedGuest> {
    let links = try TestLinks()
    let received = try Handover<Outcome<ArrivedGuest>>()
    let thread = try Thread(name: "destination") {
      received.put(
        outcome { () throws(MigrationError) in
          var destination = Destination(links.destination, producer: "destination", limits: limits)
          return try destination.receive()
        })
      links.destination.shutDown()
    }
    var stream = FrameStream(links.source, limit: patience)
    let sent = outcome { () throws(MigrationError) in
      try stream.open(Hello(.source, producer: "enemy"))
      try body(&stream)
    }
    // The destination may have hung up before all was sent.
    if let error = sent.error { #expect(error == .peerGone) }
    thread.join()
    return received.wait()
  }

  private func describe(_ regions: [GuestRange]) -> [UInt8] {
    var writer = WireWriter()
    writer.append(UInt16(regions.count))
    for region in regions {
      writer.append(region.start.rawValue)
      writer.append(region.byteCount)
    }
    writer.append(UInt16(0))
    return writer.bytes
  }

  /// What a destination that has accepted a guest of 64 pages says to these frames.
  private func afterAccept(_ frames: [(FrameKind, [UInt8])]) throws -> MigrationError? {
    try receive { (stream) throws(MigrationError) in
      try stream.send(.description, describe([pages(0, 64)]))
      for (kind, payload) in frames { try stream.send(kind, payload) }
    }.error
  }

  private func plan(_ runs: [(start: UInt64, count: UInt32, isZero: Bool)]) -> (FrameKind, [UInt8]) {
    (
      .plan,
      PageRun.payload(runs.map { PageRun(start: address($0.start * 4096), pageCount: $0.count, isZero: $0.isZero) })
    )
  }

  // MARK: - Opening

  @Test("what is not a migration is named so", arguments: [[UInt8]("GET / HTTP/1.1\r\n".utf8), [0], []])
  func notAMigration(bytes: [UInt8]) throws {
    let links = try TestLinks()
    try links.source.send(bytes, within: patience)
    links.source.shutDown()
    let received = outcome { () throws(MigrationError) in
      var destination = Destination(links.destination, producer: "", limits: limits)
      return try destination.receive()
    }
    #expect([.notAMigration, .peerGone].contains(received.error))
  }

  @Test("another version of the format is named on both sides")
  func version() throws {
    let links = try TestLinks(source: { (index, message) in
      index == 0 ? [.send(message.prefix(8) + [9, 0, 0, 0] + message.dropFirst(12))] : nil
    })
    let error = MigrationError.unsupportedVersion(9, newest: 1)
    let newer = try move(SampleGuest(), over: links)
    #expect(newer.destination.error == error)
    #expect(newer.source.error == .peerFailed(error.description))
    let other = try move(
      SampleGuest(),
      over: TestLinks(destination: { (index, message) in
        index == 0 ? [.send(message.prefix(8) + [9, 0, 0, 0] + message.dropFirst(12))] : nil
      }))
    #expect(other.source.error == error)
    #expect(other.destination.error == .peerFailed(error.description))
  }

  // MARK: - Layout

  @Test(
    "regions that overlap, fall, are empty, endless or not of whole pages are refused",
    arguments: badLayouts)
  func regions(_ regions: [GuestRange]) throws {
    let error = try receive { (stream) throws(MigrationError) in
      try stream.send(.description, describe(regions))
    }.error
    guard case .invalidRegion(let range) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(regions.contains(range))
  }

  @Test("sizes that add up beyond any number are refused")
  func endlessSum() throws {
    let half = UInt64(1) << 62
    let regions = [GuestRange(start: address(0), byteCount: half - 4096)]
    let error = try receive { (stream) throws(MigrationError) in
      try stream.send(.description, describe(regions))
    }.error
    #expect(error == .tooMuchMemory(byteCount: half - 4096, most: limits.mostMemory))
  }

  @Test("a description that is cut short, too long or without regions is malformed", arguments: [0, 1, 17, 21, 23])
  func malformedDescription(byteCount: Int) throws {
    let whole = describe([pages(0, 1)])
    let payload = byteCount <= whole.count ? Array(whole.prefix(byteCount)) : whole + [0]
    let error = try receive { (stream) throws(MigrationError) in try stream.send(.description, payload) }.error
    #expect(error == .malformedFrame(.description))
  }

  // MARK: - Lengths

  @Test(
    "lengths beyond what a frame may have are refused before anything is allocated or awaited",
    arguments: [
      (FrameKind.description, UInt32.max, UInt32(0)), (.plan, 65537, 0), (.plan, 12, 1), (.pages, 16, 1_048_577),
    ])
  func lengths(kind: FrameKind, payload: UInt32, data: UInt32) throws {
    var writer = WireWriter()
    writer.append(kind.rawValue)
    writer.append(UInt16(0))
    writer.append(UInt32(0))
    writer.append(payload)
    writer.append(data)
    writer.append(UInt64(0))
    writer.append(GuestMemory.digest(of: writer.bytes))
    let error = outcome { () throws(MigrationError) in _ = try FrameHeader(writer.bytes, expecting: 0) }.error
    guard case .frameTooLong(kind, _, _) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  // MARK: - Pages

  @Test("runs outside the regions, falling, empty or too long are refused")
  func runs() throws {
    typealias Run = (start: UInt64, count: UInt32, isZero: Bool)
    let cases: [([Run], start: UInt64, count: UInt64)] = [
      ([(64, 1, false)], 64, 1), ([(63, 2, true)], 63, 2), ([(0, 0, false)], 0, 0),
      ([(4, 2, false), (5, 1, true)], 5, 1), ([(4, 1, true), (3, 1, false)], 3, 1),
      ([(0, .max, true)], 0, 0xFFFF_FFFF), ([(1 << 51, 1, false)], 1 << 51, 1),
    ]
    for (runs, start, count) in cases {
      let error = try afterAccept([plan(runs)])
      #expect(error == .misplacedPages(address(start * 4096), pageCount: count))
    }
    #expect(try afterAccept([(.plan, [])]) == .malformedFrame(.plan))
    #expect(try afterAccept([(.plan, [1, 2, 3])]) == .malformedFrame(.plan))
  }

  @Test("a page that has been planned is not planned again: what is verified is what was sent last")
  func plannedAgain() throws {
    let error = try afterAccept([plan([(0, 4, true)]), plan([(0, 4, true)])])
    #expect(error == .misplacedPages(address(0), pageCount: 4))
  }

  @Test("more runs than two plans hold are not kept")
  func tooManyPlanned() throws {
    let runs = (0..<4096).map { PageRun(start: address($0 * 2 * 4096), pageCount: 1, isZero: false) }
    var planned = PlannedPages([pages(0, 1 << 20)])
    for index in 0..<3 {
      let shifted = runs.map {
        PageRun(start: address($0.start.rawValue + UInt64(index) * 8192 * 4096), pageCount: 1, isZero: false)
      }
      let error = outcome { () throws(MigrationError) in _ = try planned.add(shifted) }.error
      #expect(error == (index < 2 ? nil : .tooManyPlanned(most: 8192)))
    }
  }

  @Test("page data that was not planned, or not so, is refused before a byte of it is stored")
  func unplanned() throws {
    let memory = try SampleGuest().memory
    for (start, count) in [(0, 1), (2, 3), (2, 1), (3, 1), (10, 1)] {
      let error = try receive { (stream) throws(MigrationError) in
        try stream.send(.description, describe([pages(0, 64)]))
        let (kind, payload) = plan([(2, 2, false), (10, 2, false)])
        try stream.send(kind, payload)
        var frame = PageFrame()
        _ = frame.append(PageRun(start: address(UInt64(start) * 4096), pageCount: UInt32(count), isZero: false))
        try stream.sender.sendPages(frame, of: memory)
      }.error
      #expect(error == .unplannedPages(address(UInt64(start) * 4096)))
    }
  }

  @Test("a frame of pages without pages is malformed")
  func noPages() throws {
    #expect(
      try afterAccept([plan([(0, 1, false)]), (.pages, [UInt8](repeating: 0, count: 16))]) == .malformedFrame(.pages))
  }

  // MARK: - The end

  @Test(
    "pages that were sent cannot all follow the guest as well",
    .enabled(
      if: MissingPages.isAvailable, "SKIPPED: this process may not have a userfaultfd that system calls wait for"))
  func namedTwice() throws {
    let none = Completion(
      dataPageCount: 0, zeroPageCount: 8, outstandingPageCount: 8, stateByteCount: 0,
      stateDigest: GuestMemory.digest(of: []), isToVerify: false)
    let received = try receive { (stream) throws(MigrationError) in
      try stream.send(.postcopy, MoveToken().bytes)
      try stream.send(.description, describe([pages(0, 8)]))
      try stream.send(.plan, PageRun.payload([PageRun(start: address(0), pageCount: 8, isZero: true)]))
      try stream.send(.outstanding, PageRun.payload([PageRun(start: address(0), pageCount: 8, isZero: false)]))
      try stream.send(.complete, none.payload)
    }
    #expect(received.error == .incomplete)
  }

  @Test("an end that does not fit what came is refused")
  func incomplete() throws {
    let none = Completion(
      dataPageCount: 0, zeroPageCount: 0, outstandingPageCount: 0, stateByteCount: 0,
      stateDigest: GuestMemory.digest(of: []), isToVerify: true)
    #expect(try afterAccept([(.complete, none.payload), (.ready, [])]) == nil)
    #expect(try afterAccept([plan([(0, 1, false)]), (.complete, none.payload)]) == .incomplete)
    #expect(try afterAccept([plan([(0, 1, true)]), (.complete, none.payload)]) == .incomplete)
    #expect(try afterAccept([(.state, [1]), (.complete, none.payload)]) == .incomplete)
    #expect(try afterAccept([(.complete, none.payload.dropLast() + [2])]) == .malformedFrame(.complete))
    #expect(try afterAccept([(.complete, none.payload + [0])]) == .malformedFrame(.complete))
    #expect(try afterAccept([(.state, [])]) == .malformedFrame(.state))
  }

  @Test(
    "a frame of a known kind in the wrong place is refused",
    arguments: [FrameKind.hello, .description, .accept, .digests, .digestsEnd, .ready, .commit, .committed])
  func wrongPlace(kind: FrameKind) throws {
    #expect(try afterAccept([(kind, [])]) == .unexpectedFrame(kind))
  }

  @Test("what a peer says of itself is fit to print")
  func printable() throws {
    let error = try afterAccept([(.abort, Abort(.unusable("\u{1B}[2Jgone\nA\u{202E}")).payload)])
    #expect(error == .peerFailed(MigrationError.unusable("?[2Jgone?A?").description))
  }
}
