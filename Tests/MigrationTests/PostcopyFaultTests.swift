import GuestRAM
import LinuxIO
import Support
import Testing

@testable import Migration

@Suite(
  "Migration: faults while pages follow a guest", .serialized,
  .enabled(if: MissingPages.isAvailable, "SKIPPED: this process may not have a userfaultfd that system calls wait for"))
struct PostcopyFaultTests {
  private let sample: SampleGuest
  private let expected: [UInt64: UInt64]
  private let policy = MigrationPolicy(postcopy: .afterPasses(0))
  /// Short, as some faults leave both sides waiting.
  private let limits = DestinationLimits(mostMemory: 16 << 20, time: .milliseconds(400))

  init() throws {
    sample = try SampleGuest(stateByteCount: 100)
    expected = try digests(of: sample.memory)
  }

  private func move(over links: [TestLinks], seed: UInt64 = 1) throws -> LateMove {
    try movePostcopy(ScriptedGuest(sample), over: links, policy, limits: limits, expecting: expected, seed: seed)
  }

  /// The kind of frame that a message begins with.
  private static func kind(_ message: [UInt8]) -> FrameKind? {
    message.count < Frame.headerByteCount ? nil : FrameKind(rawValue: UInt16(message[0]) | UInt16(message[1]) << 8)
  }

  /// Cuts a connection at the n-th message of a kind after one of another.
  private static func cut(at kind: FrameKind, number: Int = 0, after start: FrameKind? = nil) -> TestLink.Tamper {
    let seen = Monitor((count: 0, hasStarted: start == nil))
    return { (_, message) in
      let kindOfMessage = Self.kind(message)
      let isNext = seen.withLock { (seen) in
        if kindOfMessage == start { seen.hasStarted = true }
        guard seen.hasStarted, kindOfMessage == kind else { return false }
        defer { seen.count += 1 }
        return seen.count == number
      }
      return isNext ? [.shutDown] : nil
    }
  }

  /// Exactly one side has the guest, and it has all of it or says that it lacks something.
  private func check(_ move: LateMove, _ what: Comment) {
    switch (move.source, move.destination) {
    case (.success, .success): #expect(move.hasReadRight, what)
    case (.failure(let error), .success):
      #expect(!error.sourceMayRun && move.hasReadRight, what)
    case (.success, .failure(let error)): Issue.record("nobody knows of the guest's trouble: \(error), \(what)")
    case (.failure(let error), .failure(let other)):
      // The guest is here, or it is there and waits; or nobody runs it, and an operator has to say who does.
      #expect(!(error.sourceMayRun && move.hasStarted), "\(what): \(error); \(other)")
      if move.hasStarted, case .interrupted = other {} else { #expect(!move.hasStarted, "\(what): \(other)") }
      #expect(move.guest.calls.contains(.resume) == (error.sourceMayRun && move.guest.calls.contains(.pause)), what)
    }
  }

  @Test("whatever happens to a message of the source, one side has the guest", arguments: Fault.allCases)
  func sourceMessages(fault: Fault) throws {
    let links = try TestLinks()
    _ = try move(over: [links])
    for index in 0..<links.source.messageCount where index < 8 || index % 7 == 0 {
      let move = try move(over: [TestLinks(source: fault.tamper(at: index))])
      check(move, "\(fault) of the source's message \(index)")
    }
  }

  @Test("whatever happens to a message of the destination, one side has the guest", arguments: Fault.allCases)
  func destinationMessages(fault: Fault) throws {
    let links = try TestLinks()
    _ = try move(over: [links])
    for index in 0..<links.destination.messageCount where index < 6 || index % 31 == 0 {
      let move = try move(over: [TestLinks(destination: fault.tamper(at: index))])
      check(move, "\(fault) of the destination's message \(index)")
    }
  }

  @Test("over new connections the guest gets all of its pages, wherever the old ones broke")
  func recovers() throws {
    for number in [0, 1, 4, 9] {
      let links = [
        try TestLinks(destination: Self.cut(at: .stored, number: number, after: .committed)),
        try TestLinks(source: Self.cut(at: .late, number: number)),
        try TestLinks(destination: Self.cut(at: .request)), try TestLinks(),
      ]
      let move = try move(over: links, seed: UInt64(number))
      let (source, destination) = (try move.source.get(), try move.destination.get())
      #expect(move.hasStarted && move.hasReadRight)
      #expect(move.arrived?.late?.missingByteCount == 0)
      #expect(source.latePageCount >= SampleGuest.dataPageCount)
      #expect(destination.latePageCount == SampleGuest.dataPageCount)
      #expect(destination.acknowledgementError == nil)
    }
  }

  @Test(
    "whatever happens to a message by which the two sides join anew, the next connection brings all that is missing",
    arguments: Fault.allCases)
  func rejoining(fault: Fault) throws {
    // Each side's opening, then whose guest it is on the one side, and what is missing and an acceptance on the other.
    for (index, isSource) in [(0, true), (1, true), (0, false), (1, false), (2, false)] {
      let tamper = fault.tamper(at: index)
      let links = [
        try TestLinks(destination: Self.cut(at: .stored, number: 1, after: .committed)),
        try isSource ? TestLinks(source: tamper) : TestLinks(destination: tamper),
        try TestLinks(), try TestLinks(),
      ]
      let move = try move(over: links, seed: UInt64(index))
      let what: Comment = "\(fault) of the \(isSource ? "source" : "destination")'s message \(index)"
      #expect(move.source.error == nil && move.destination.error == nil, what)
      #expect(move.hasStarted && move.hasReadRight && move.arrived?.late?.missingByteCount == 0, what)
      #expect(!move.guest.calls.contains(.resume), what)
    }
  }

  @Test("a source that did not hear whether the guest arrived learns it over a new connection")
  func lostAcknowledgement() throws {
    let links = [try TestLinks(destination: Self.cut(at: .committed)), try TestLinks()]
    let move = try move(over: links)
    #expect(move.source.value != nil && move.destination.value != nil && move.hasReadRight)
  }

  @Test("a connection that breaks before the guest is given away leaves it where it is, with no other asked for")
  func brokenBefore() throws {
    let links = [try TestLinks(destination: Self.cut(at: .ready)), try TestLinks()]
    let move = try move(over: links)
    #expect(move.source.error?.sourceMayRun == true && !move.hasStarted)
    #expect(links[1].source.messageCount == 0)
  }

  @Test("whoever restores a guest does not wait for pages whose source is gone before it has given the guest away")
  func brokenWhileRestored() throws {
    let move = try movePostcopy(
      ScriptedGuest(sample), over: [TestLinks(source: Self.cut(at: .late))], policy, limits: limits,
      expecting: expected,
      restoring: { (memory) in
        // Which of its pages devices touch when they are restored is theirs to know.
        for range in SampleGuest.data { _ = try? memory.digest(range) }
      })
    #expect(move.source.error?.sourceMayRun == true && move.destination.error != nil && !move.hasStarted)
  }

  @Test("without another connection both sides say that pages are missing, and the guest waits for them")
  func interrupted() throws {
    let move = try move(over: [TestLinks(destination: Self.cut(at: .stored, number: 1, after: .committed))])
    guard move.source.error?.sourceMayRun == false, case .interrupted = move.destination.error else {
      Issue.record("\(move.source), \(move.destination)")
      return
    }
    #expect(move.arrived?.late?.missingByteCount ?? 0 > 0)
  }

  @Test("the source of another guest cannot go on with this one")
  func anotherMove() throws {
    let links = [try TestLinks(destination: Self.cut(at: .stored, number: 1, after: .committed)), try TestLinks()]
    let stranger = links[1].source
    let received = try Handover<MigrationError?>()
    var guest = ScriptedGuest(sample)
    let limits = limits
    let destination = links.map(\.destination)
    let thread = try Thread(name: "destination") {
      received.put(
        outcome { () throws(MigrationError) in
          var arriving = Destination(destination[0], producer: "destination", limits: limits)
          let arrived = try arriving.receive()
          defer { arrived.late?.abandon() }
          var next = 1
          return try arriving.confirm(recovering: { (_) in
            defer { next += 1 }
            return next < destination.count ? destination[next] : nil
          })
        }.error)
    }
    let sent = outcome { () throws(MigrationError) in
      try Source(links[0].source, producer: "source", timeLimit: limits.time).move(&guest, policy: policy)
    }
    #expect(sent.error?.sourceMayRun == false)
    var stream = FrameStream(stranger, limit: patience)
    try stream.open(Hello(.source, producer: "stranger"))
    try stream.send(.rejoin, MoveToken().bytes)
    thread.join()
    #expect(received.wait() == .interrupted(MigrationError.anotherMove.description))
  }

  @Test("a destination that asks for more pages than anybody can wait for is not listened to")
  func tooManyRequests() throws {
    let request = Frame(kind: .request, payload: address(0).pagePayload)
    var late = LateSending(MoveToken(), OutstandingPages([pages(0, 8)]), mostBytesPerSecond: nil)
    for _ in 0..<4096 { try late.hear(request) }
    #expect(outcome { () throws(MigrationError) in try late.hear(request) }.error == .unexpectedFrame(.request))
  }

  @Test("an outstanding page that is given back to the host stays without memory when it comes")
  func givenBack() throws {
    let memory = try GuestMemory(regions: [MemoryRegion(memoryFile: 8 * pageByteCount, start: address(0))])
    var outstanding = OutstandingPages([pages(0, 8)])
    try outstanding.insert(pages(0, 4))
    let late = try LateMemory(memory, outstanding)
    try memory.discard(pages(1, 1))
    let run = PageRun(start: address(0), pageCount: 4, isZero: false)
    try late.store(run, [UInt8](repeating: 7, count: 4 * Int(pageByteCount)))
    #expect(try memory.residentPages() == [pages(0, 1), pages(2, 2)])
    #expect(late.missingByteCount == 0)
    late.abandon()
    #expect(try memory.readBytes(4096, at: address(4096)) == [UInt8](repeating: 0, count: 4096))
  }

  @Test("who waits for a page that is given back meanwhile gets zeros when it comes", arguments: [false, true])
  func givenBackWhileWaitedFor(isZero: Bool) throws {
    let memory = try GuestMemory(regions: [MemoryRegion(memoryFile: 8 * pageByteCount, start: address(0))])
    var outstanding = OutstandingPages([pages(0, 8)])
    try outstanding.insert(pages(0, 4))
    let late = try LateMemory(memory, outstanding)
    let asked = SharedGate(try Semaphore())
    try late.startAnswering({ _ in asked.signal() }, failed: { Issue.record("nobody answers") })
    let reader = try Started("reader") {
      #expect(throws: Never.self) {
        let value = try memory.read(UInt64.self, at: address(4096))
        #expect(value == 0)
      }
    }
    asked.wait()
    try memory.discard(pages(1, 1))
    let run = PageRun(start: address(0), pageCount: 4, isZero: isZero)
    try late.store(run, isZero ? [] : [UInt8](repeating: 7, count: 4 * Int(pageByteCount)))
    reader.join()
    late.abandon()
  }
}
