import GuestRAM
import LinuxIO
import Support
import Testing

@testable import Migration

@Suite("Migration: a guest that runs") struct LiveMoveTests {
  /// No pass ever leaves so little that the guest may be stopped for it.
  private static let never = Duration.zero

  private func bytes(_ memory: GuestMemory, _ range: GuestRange) throws -> [UInt8] {
    try memory.readBytes(Int(range.byteCount), at: range.start)
  }

  @Test("what is written while earlier pages are on their way arrives as it was last")
  func writes() throws {
    let sample = try SampleGuest()
    let (first, second) = (pages(1, 2), pages(0x40000 + 100, 300))
    let guest = ScriptedGuest(
      sample, [.fill(first, with: 1), .fill(second, with: 2), .fill(first, with: 3), .fill(pages(60, 4), with: 4)])
    let move = try moveLive(
      guest, over: TestLinks(), policy: MigrationPolicy(downtimeLimit: Self.never, verifies: true))
    let arrived = try #require(move.destination.value)
    for range in SampleGuest.regions { #expect(try bytes(arrived.guest.memory, range) == bytes(sample.memory, range)) }
    #expect(arrived.guest.state == sample.state)
    let report = try #require(move.source.value)
    #expect(report.isVerified)
    // Three passes that the script wrote something for, one that found nothing written, one with the guest stopped.
    #expect(report.passCount == move.passes.count)
    #expect(move.guest.calls.first == .begin && move.guest.calls.suffix(2) == [.pause, .end])
    #expect(!move.guest.calls.contains(.resume))
    #expect(try #require(report.downtimeSeconds) <= report.seconds)
  }

  @Test("pages that become zero or are given back meanwhile are zero there, and take no memory")
  func zeros() throws {
    let sample = try SampleGuest()
    let (zeroed, given) = (pages(40, 8), pages(0x40000 + 200, 64))
    let guest = ScriptedGuest(sample, [.fill(zeroed, with: 0), .discard(given), .fill(pages(20, 1), with: 9)])
    let move = try moveLive(
      guest, over: TestLinks(), policy: MigrationPolicy(downtimeLimit: Self.never, verifies: true))
    let arrived = try #require(move.destination.value).guest.memory
    // Asked before anything of it is read: reading would give it memory.
    let resident = try arrived.residentRanges()
    for range in [zeroed, given] { #expect(resident.allSatisfy { $0.overlap(range) == nil }) }
    #expect(try sample.memory.residentRanges().allSatisfy { $0.overlap(given) == nil })
    for range in SampleGuest.regions { #expect(try bytes(arrived, range) == bytes(sample.memory, range)) }
  }

  @Test("pages that become zero within a huge page of the destination are zero there", .enabled(if: hasHugePages))
  func hugePages() throws {
    let memory = try GuestMemory(byteCount: 8 << 20)
    try memory.write(bytes: [UInt8](repeating: 9, count: 6 << 20), at: address(0))
    // A whole huge page goes, parts of two more, and a part of one that was never there.
    let zeros = [pages(1, 3), pages(500, 530), pages(1500, 40)]
    let guest = ScriptedGuest(
      SampleGuest(memory: memory, state: [1]),
      [ScriptedGuest.Act(ranges: zeros) { (memory) in for range in zeros { try memory.clear(range) } }])
    let move = try moveLive(
      guest, over: TestLinks(), policy: MigrationPolicy(downtimeLimit: Self.never, verifies: true),
      makeMemory: { (description) throws(GuestMemoryError) in try description.makeMemory(hugePages: true) })
    #expect(move.source.value?.isVerified == true)
    let arrived = try #require(move.destination.value).guest.memory
    #expect(
      try arrived.residentRanges() == [
        GuestRange(start: address(0), byteCount: 2 << 20), GuestRange(start: address(4 << 20), byteCount: 2 << 20),
      ])
    #expect(try bytes(arrived, arrived.regions[0].range) == bytes(memory, memory.regions[0].range))
  }

  @Test("once the threads that prepare memory are told to end, no page gets any by them", arguments: [1, 3])
  func prepared(threadCount: Int) throws {
    let memory = try GuestMemory(byteCount: 16 << 20)
    for _ in 0..<20 {
      let hasBegun = SharedGate(try Semaphore())
      let populator = Populator(threadCount: threadCount) { (range) throws(GuestMemoryError) in
        hasBegun.signal()
        return try memory.populate(range)
      }
      try populator.add((0..<64).map { pages($0 * 64, 64) })
      hasBegun.wait()
      populator.finish()
      try memory.discard(memory.regions[0].range)
      try populator.add([pages(0, 64)])
      for _ in 0..<20 { #expect(try memory.residentRanges() == []) }
    }
  }

  @Test("a page that becomes zero before the destination has got round to it takes no memory there", arguments: 0..<20)
  func zeroAtOnce(round: Int) throws {
    let memory = try GuestMemory(byteCount: 8 << 20)
    // Many short runs, which keep those behind that prepare memory.
    for page in stride(from: 0, to: UInt64(2048), by: 2) { try memory.write(UInt8(1), at: address(page * 4096)) }
    let all = memory.regions[0].range
    let guest = ScriptedGuest(SampleGuest(memory: memory, state: [1]), [.discard(all)])
    let move = try moveLive(guest, over: TestLinks(), policy: MigrationPolicy(downtimeLimit: Self.never))
    #expect(try #require(move.destination.value).guest.memory.residentRanges() == [])
  }

  @Test("what is given back after the first pass has begun is named as zero, and gets no memory by being looked at")
  func sweep() throws {
    let memory = try SampleGuest().memory
    var sweep = try PageSweep(memory)
    let given = pages(0x40000 + 150, 100)
    try memory.discard(given)
    var runs: [PageRun] = []
    while case let next = try sweep.next(), !next.isEmpty { runs += next }
    #expect(runs.contains(PageRun(start: given.start, pageCount: 100, isZero: true)))
    #expect(try memory.residentRanges(in: given) == [])
  }

  @Test("a guest that does nothing is stopped after one pass")
  func idle() throws {
    let move = try moveLive(ScriptedGuest(SampleGuest()), over: TestLinks())
    #expect(move.source.value?.passCount == 1)
    #expect(move.passes.map(\.remainingByteCount) == [0])
    #expect(move.events.last == .stopping)
  }

  @Test("a guest that writes too fast runs on here, and the destination hears why")
  func tooFast() throws {
    let guest = ScriptedGuest(try SampleGuest(), habit: .fill(pages(0, 64), with: 5))
    let policy = MigrationPolicy(downtimeLimit: Self.never, mostPasses: 4)
    let move = try moveLive(guest, over: TestLinks(), policy: policy)
    guard case .guest(let reason)? = move.source.error else {
      Issue.record("\(move.source)")
      return
    }
    #expect(reason.contains("writes too fast: after 4 passes"))
    #expect(move.destination.error == .peerFailed(reason))
    #expect(!move.guest.calls.contains(.pause))
    #expect(move.guest.calls.suffix(2) == [.end, .slowDown(1)])
  }

  @Test("if that is allowed it is slowed down, step by step, and stopped anyway")
  func slowed() throws {
    let sample = try SampleGuest()
    let guest = ScriptedGuest(sample, habit: .fill(pages(0, 64), with: 5))
    let policy = MigrationPolicy(
      downtimeLimit: Self.never, mostPasses: 8, slowsDown: true, stopsAnyway: true, verifies: true)
    let move = try moveLive(guest, over: TestLinks(), policy: policy)
    #expect(move.source.value?.isVerified == true)
    let shares = move.passes.map(\.share)
    #expect(shares == shares.sorted(by: >) && shares.last ?? 1 < 0.5)
    #expect(try bytes(#require(move.destination.value).guest.memory, pages(0, 64)).allSatisfy { $0 == 5 })
  }

  @Test("a move that is called off leaves the guest running here", arguments: [1, 3])
  func cancelled(after pass: Int) throws {
    let cancellation = try Cancellation()
    let guest = ScriptedGuest(try SampleGuest(), habit: .fill(pages(0, 64), with: 5))
    let move = try moveLive(
      guest, over: TestLinks(), policy: MigrationPolicy(downtimeLimit: Self.never), unless: cancellation
    ) { if case .pass(pass, _) = $0 { cancellation.cancel() } }
    #expect(move.source.error == .cancelled)
    #expect(move.destination.error == .peerFailed(MigrationError.cancelled.description))
    #expect(!move.guest.calls.contains(.pause))
    #expect(move.passes.count == pass)
  }

  @Test("a forecast comes once the connection's rate is known, and before the first pass is over")
  func forecast() throws {
    let size = UInt64(24 << 20)
    let memory = try GuestMemory(byteCount: size)
    let page = [UInt8](repeating: 1, count: 4096)
    for offset in stride(from: 0, to: size, by: 4096) { try memory.write(bytes: page, at: address(offset)) }
    let guest = ScriptedGuest(SampleGuest(memory: memory, state: [1]))
    let move = try moveLive(
      guest, over: TestLinks(), policy: MigrationPolicy(forecasts: true), limits: DestinationLimits(mostMemory: size))
    guard case .forecast(let forecast)? = move.events.first else {
      Issue.record("\(move.events)")
      return
    }
    #expect(forecast.fits && forecast.downtimeSeconds == 0 && forecast.seconds > 0)
    #expect(move.events.count == 3)
    #expect(move.source.value?.passes == move.passes)
  }

  @Test("a bandwidth limit holds while the guest runs")
  func limit() throws {
    let policy = MigrationPolicy(mostBytesPerSecond: 8 << 20)
    let move = try moveLive(ScriptedGuest(SampleGuest()), over: TestLinks(), policy: policy)
    let report = try #require(move.source.value)
    let bytes = report.dataPageCount * pageByteCount
    // The burst goes at once.
    #expect(report.seconds >= Double(bytes - 1 << 20) / Double(8 << 20) - 0.001)
  }

  @Test(
    "whatever a guest cannot do, and whenever the move is called off, it runs on as before", arguments: [false, true])
  func interrupted(isCalledOff: Bool) throws {
    func guest() throws -> ScriptedGuest { ScriptedGuest(try SampleGuest(), [.fill(pages(1, 2), with: 1)]) }
    let policy = MigrationPolicy(downtimeLimit: Self.never, slowsDown: true, forecasts: true, verifies: true)
    let whole = try moveLive(guest(), over: TestLinks(), policy: policy)
    #expect(whole.source.error == nil && whole.guest.calls.filter { $0 == .pause }.count == 1)
    // To begin, two looks at its writes, one after each pass, to stop, and a last look.
    #expect(whole.guest.questionCount >= 6)
    for moment in 0..<whole.guest.questionCount {
      let cancellation = try Cancellation()
      let reason = isCalledOff ? MigrationError.cancelled : .guest("it cannot")
      var guest = try guest()
      guest.interrupt = { (number) throws(MigrationError) in
        guard number == moment else { return }
        if isCalledOff { cancellation.cancel() } else { throw reason }
      }
      let move = try moveLive(guest, over: TestLinks(), policy: policy, unless: cancellation)
      let calls = move.guest.calls
      func count(_ call: ScriptedGuest.Call) -> Int { calls.filter { $0 == call }.count }
      #expect(move.source.error == reason, "moment \(moment)")
      #expect(move.destination.error == .peerFailed(reason.description), "moment \(moment)")
      #expect(count(.end) == 1 && count(.resume) == count(.pause), "moment \(moment): \(calls)")
      #expect(calls.last { $0 != .end } == .slowDown(1), "moment \(moment): \(calls)")
    }
  }

  @Test("a guest that was stopped and cannot be moved runs on", arguments: [false, true])
  func failsLate(whileGivingAway: Bool) throws {
    let guest = ScriptedGuest(try SampleGuest())
    let counting = try TestLinks()
    _ = try moveLive(guest, over: counting)
    // The destination's last words: digests, ready, committed.
    let ready = counting.destination.messageCount - 2
    let links = try TestLinks(destination: { (index, _) in
      index == (whileGivingAway ? ready + 1 : ready) ? [.shutDown] : nil
    })
    let move = try moveLive(guest, over: links)
    #expect(move.source.error?.sourceMayRun == !whileGivingAway)
    #expect(move.guest.calls.contains(.resume) == !whileGivingAway)
    #expect((move.guest.calls.last { $0 != .end } == .slowDown(1)) == !whileGivingAway)
    #expect(move.destination.error == nil || !whileGivingAway)
  }
}

/// Without them the test that needs huge pages is shown as skipped; as root: `sysctl -w vm.nr_hugepages=64`.
private let hasHugePages =
  (try? GuestMemory(byteCount: 8 << 20, hugePages: true).populate(GuestRange(start: address(0), byteCount: 8 << 20)))
  == true
