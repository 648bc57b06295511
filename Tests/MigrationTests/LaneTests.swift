import GuestRAM
import LinuxIO
import Support
import Synchronization
import Testing

@testable import Migration

@Suite("Migration: several connections") struct LaneTests {
  @Test("pages go over all connections and arrive as they were", arguments: [1, 3])
  func whole(count: Int) throws {
    let guest = try WideGuest()
    let links = try LaneLinks(count: count)
    let move = try move(guest, over: links)
    let (sent, arrived) = (try #require(move.source.value), try #require(move.destination.value))
    #expect(sent.isVerified)
    #expect(sent.connectionCount == 1 + count && arrived.report.connectionCount == 1 + count)
    // The opening, the number, a plan, a frame and its data, and the end of the pass at the least.
    #expect(links.lanes.allSatisfy { $0.source.messageCount >= 6 })
    #expect(sent.dataPageCount == arrived.report.dataPageCount && sent.zeroPageCount == arrived.report.zeroPageCount)
    #expect(sent.absentPageCount == arrived.report.absentPageCount)
    #expect(sent.wireByteCount == arrived.report.wireByteCount)
    #expect(try WideGuest.digests(arrived.guest.memory) == WideGuest.digests(guest.memory))
  }

  @Test("what one connection brings late is not stored over what another has brought since")
  func passes() throws {
    let guest = try WideGuest()
    let links = try LaneLinks(count: 2)
    let (all, half) = (pages(0, 10240), pages(2000, 5000))
    var live = ScriptedGuest(
      SampleGuest(memory: guest.memory, state: [7]),
      [.fill(all, with: 1), .fill(half, with: 0), .discard(all), .fill(half, with: 3)])
    let move = try move(over: links) { () throws(MigrationError) in
      try Source(links.main.source, further: links.lanes.map(\.source), producer: "source", timeLimit: patience)
        .move(&live, policy: MigrationPolicy(downtimeLimit: .zero, verifies: true))
    }
    let (sent, arrived) = (try #require(move.source.value), try #require(move.destination.value))
    #expect(sent.isVerified && sent.passCount >= 4)
    #expect(try arrived.guest.memory.residentRanges().reduce(0) { $0 + $1.byteCount } == half.byteCount)
    #expect(try arrived.guest.memory.readBytes(2, at: half.start) == [3, 3])
  }

  @Test("a destination that takes one connection gets the guest over that one")
  func alone() throws {
    let move = try move(WideGuest(), over: LaneLinks(count: 2, isGated: false), accepts: false)
    #expect(move.source.value?.connectionCount == 1 && move.source.value?.isVerified == true)
    #expect(move.destination.value?.report.connectionCount == 1)
  }

  @Test("a guest that is compressed goes over one connection, whatever there is")
  func compressed() throws {
    let links = try LaneLinks(count: 1, isGated: false)
    var live = ScriptedGuest(SampleGuest(memory: try WideGuest().memory, state: [7]))
    let move = try move(over: links) { () throws(MigrationError) in
      try Source(links.main.source, further: links.lanes.map(\.source), producer: "source", timeLimit: patience)
        .move(&live, policy: MigrationPolicy(compresses: true, verifies: true))
    }
    #expect(move.source.value?.isVerified == true)
  }

  @Test("what a guest names as free is sent over no connection")
  func hints() throws {
    let links = try LaneLinks(count: 1)
    let (memory, free) = (try WideGuest().memory, pages(9000, 500))
    let resident = try memory.residentRanges(in: free).reduce(0) { $0 + $1.byteCount } / pageByteCount
    var live = ScriptedGuest(SampleGuest(memory: memory, state: [7]))
    live.hints = [[free]]
    let move = try move(over: links) { () throws(MigrationError) in
      try Source(links.main.source, further: links.lanes.map(\.source), producer: "source", timeLimit: patience)
        .move(&live, policy: MigrationPolicy(verifies: true))
    }
    let (sent, arrived) = (try #require(move.source.value), try #require(move.destination.value))
    #expect(sent.isVerified && sent.skippedPageCount == resident)
    #expect(try arrived.guest.memory.residentRanges(in: free) == [])
  }

  // MARK: - Strangers

  @Test("connections of strangers are let go of, and the guest comes over the others")
  func strangers() throws {
    var links = try LaneLinks(count: 2)
    var others: [TestLinks] = []
    for call in [LaneCall(0, token: 0), LaneCall(1, token: .max)] {
      let stranger = try TestLinks()
      try Lane(stranger.source, limit: patience).join(call, producer: "stranger")
      others.append(stranger)
    }
    let (noise, silent) = (try TestLinks(), try TestLinks())
    try noise.source.send([UInt8](repeating: 9, count: 4096), within: patience)
    silent.source.shutDown()
    others += [noise, silent]
    links.strangers = others.map(\.destination)
    let move = try move(WideGuest(), over: links)
    #expect(move.source.value?.isVerified == true && move.source.value?.connectionCount == 3)
  }

  @Test("a move whose further connections do not come fails on both sides, and the guest stays")
  func missing() throws {
    let links = try LaneLinks(count: 1, isGated: false)
    let move = try move(over: links) { () throws(MigrationError) in
      let elsewhere: TestLinks
      do { elsewhere = try TestLinks() } catch { throw .guest("\(error)") }
      // What comes instead of it closes at once.
      links.lanes[0].source.shutDown()
      let guest: WideGuest
      do { guest = try WideGuest() } catch { throw .guest("\(error)") }
      return try Source(links.main.source, further: [elsewhere.source], producer: "source", timeLimit: patience)
        .move(guest.memory, state: [])
    }
    #expect(move.destination.error == .peerStalled)
    #expect(move.source.error == .peerFailed(MigrationError.peerStalled.description))
  }

  // MARK: - Faults

  /// The opening, the number and a plan come before a frame and its data.
  private static let firstData = 4

  @Test("a connection that ends within a frame fails the move on both sides, and the guest stays")
  func cut() throws {
    let links = try LaneLinks(
      count: 2,
      source: { (index, message) in
        index == Self.firstData ? [.send(Array(message.prefix(message.count / 2))), .shutDown] : nil
      })
    let move = try move(WideGuest(), over: links)
    #expect(move.destination.error == .connectionLost)
    let lost = MigrationError.connectionLost
    #expect([lost, .peerFailed(lost.description)].contains(move.source.error))
  }

  @Test("data that is damaged on any connection is named on both sides")
  func damaged() throws {
    let links = try LaneLinks(
      count: 1,
      source: { (index, message) in
        index == Self.firstData ? [.send([message[0] ^ 1] + message.dropFirst())] : nil
      })
    let move = try move(WideGuest(), over: links)
    guard case .damagedPages = move.destination.error else {
      Issue.record("\(move.destination)")
      return
    }
    #expect(move.source.error == move.destination.error.map { .peerFailed($0.description) })
  }

  // MARK: - Hostile sources

  /// What a destination makes of frames on the first and on a further connection.
  private func judge(
    main: [Frame] = [], lane frames: [Frame]
  ) throws -> MigrationError? {
    let links = try LaneLinks(count: 1, isGated: false)
    let move = try move(over: links) { () throws(MigrationError) in
      var stream = FrameStream(links.main.source, limit: patience)
      try stream.open(Hello(.source, producer: "hostile"))
      let description = try GuestDescription(regions: [pages(0, 1024)], notes: [])
      try stream.send(.description, description.payload)
      _ = try stream.receiveHello()
      _ = try stream.receive(.accept)
      let lane = try Lane(links.lanes[0].source, limit: patience)
      try lane.join(LaneCall(0, token: 5), producer: "hostile")
      try stream.send(.lanes, LaneCall(1, token: 5).payload)
      _ = try stream.receive(.lanes)
      for frame in main { try stream.sender.send(frame) }
      for frame in frames {
        try lane.stream.withLock { (stream) throws(MigrationError) in try stream.sender.send(frame) }
      }
      // The destination looks at the others when the first connection says that all has been sent.
      try stream.send(.pass, Pass.payload(1))
      _ = try stream.receive()
      return MigrationReport()
    }
    return move.destination.error
  }

  private static func plan(_ range: GuestRange, isZero: Bool = false) -> Frame {
    let run = PageRun(start: range.start, pageCount: UInt32(range.byteCount / pageByteCount), isZero: isZero)
    return Frame(kind: .plan, payload: PageRun.payload([run]))
  }

  @Test("data that was not announced on its connection is refused, wherever else it was announced")
  func unplanned() throws {
    var frame = PageFrame()
    _ = frame.append(PageRun(start: address(8192), pageCount: 1, isZero: false))
    let zeros = try GuestMemory(byteCount: 1 << 20)
    let pages = Frame(kind: .pages, payload: try frame.payload(zeros), dataByteCount: 4096)
    #expect(try judge(main: [Self.plan(somePages(2, 1))], lane: [pages]) == .unplannedPages(address(8192)))
  }

  @Test("a page is named once in a pass, over all connections")
  func duplicates() throws {
    let twice = MigrationError.misplacedPages(address(4 * pageByteCount), pageCount: 2)
    let across = try judge(
      main: [Self.plan(somePages(5, 1), isZero: true)], lane: [Self.plan(somePages(4, 2), isZero: true)])
    // Whichever comes second.
    #expect([twice, .misplacedPages(address(5 * pageByteCount), pageCount: 1)].contains(across))
    // On one connection they rise as well.
    #expect(
      try judge(lane: [Self.plan(somePages(5, 1), isZero: true), Self.plan(somePages(4, 2), isZero: true)])
        == twice)
  }

  @Test("pages outside the guest are refused on any connection")
  func outside() throws {
    #expect(
      try judge(lane: [Self.plan(somePages(1023, 2), isZero: true)])
        == .misplacedPages(address(1023 * pageByteCount), pageCount: 2))
  }

  @Test(
    "a further connection carries nothing but pages",
    arguments: [FrameKind.state, .commit, .complete, .pass, .lanes, .join, .encoded, .ready])
  func foreign(kind: FrameKind) throws {
    #expect(try judge(lane: [Frame(kind: kind)]) == .unexpectedFrame(kind))
  }

  @Test("the end of a pass that has not begun is refused, and data that is missing at the end is missed")
  func barriers() throws {
    #expect(try judge(lane: [Frame(kind: .barrier, payload: Pass.payload(1))]) == .unexpectedFrame(.barrier))
    let early = [Self.plan(somePages(3, 1)), Frame(kind: .barrier, payload: Pass.payload(0))]
    #expect(try judge(lane: early) == .incomplete)
  }

  @Test("offers that mean nothing are refused")
  func offers() throws {
    for payload in [LaneCall(16, token: 1).payload, [], LaneCall(1, token: 1).payload + [0]] {
      #expect(throws: MigrationError.malformedFrame(.lanes)) { try LaneCall(payload, of: .lanes) }
    }
    #expect(try LaneCall(LaneCall(15, token: 1 << 100).payload, of: .join) == LaneCall(15, token: 1 << 100))
    let links = try LaneLinks(count: 16, isGated: false)
    let move = try move(WideGuest(), over: links)
    #expect(move.source.error == .tooManyConnections(16, most: 15))
  }
}

/// `pages`, where the name stands for something else.
private func somePages(_ start: UInt64, _ count: UInt64) -> GuestRange { pages(start, count) }

@Suite("Migration: pages named by several connections") struct PageClaimTests {
  @Test("each page can be had once in a pass, seen against a list of all")
  func claims() throws {
    var generator = SeededGenerator(for: "pages named by several connections")
    let seed = generator.seed
    let regions = [pages(3, 70), pages(200, 129)]
    var (claims, taken) = (PageClaims(regions), Set<UInt64>())
    for _ in 0..<200 {
      let start = UInt64.random(in: 0..<340, using: &generator)
      let count = UInt64.random(in: 1...70, using: &generator)
      let wanted = Set(start..<start + count)
      let isInside = regions.contains { $0.overlap(pages(start, count)) == pages(start, count) }
      let run = PageRun(start: pages(start, count).start, pageCount: UInt32(count), isZero: false)
      let isFree = isInside && taken.isDisjoint(with: wanted)
      var tried = claims
      do {
        try tried.claim([run])
        #expect(isFree, "seed \(seed)")
        claims = tried
        taken.formUnion(wanted)
      } catch {
        #expect(!isFree, "seed \(seed)")
      }
    }
    claims.removeAll()
    try claims.claim([PageRun(start: regions[0].start, pageCount: 70, isZero: true)])
  }

  @Test("what is asked about near some pages is all that has memory there")
  func residency() throws {
    var generator = SeededGenerator(for: "memory behind pages that were written")
    let seed = generator.seed
    let memory = try GuestMemory(regions: [
      MemoryRegion(memoryFile: 4 << 20, start: address(0)), MemoryRegion(anonymous: 4 << 20, start: address(4 << 20)),
    ])
    for _ in 0..<300 { try memory.write(UInt8(1), at: address(.random(in: 0..<8 << 20, using: &generator))) }
    var ranges: [GuestRange] = []
    for page in 0..<UInt64(2048) where UInt8.random(in: 0..<30, using: &generator) == 0 {
      ranges.append(pages(page, 1))
    }
    #expect(
      try ranges.pieces(resident: memory.residentPages(near: ranges))
        == ranges.pieces(resident: memory.residentPages()), "seed \(seed)")
  }
}
