import GuestRAM
import LinuxIO
import Support
import Testing

@testable import Migration

@Suite(
  "Migration: a guest that its pages follow", .serialized,
  .enabled(if: MissingPages.isAvailable, "SKIPPED: this process may not have a userfaultfd that system calls wait for"))
struct PostcopyTests {
  private let sample: SampleGuest
  private let expected: [UInt64: UInt64]
  private static let all = SampleGuest.dataPageCount + SampleGuest.zeroPageCount

  /// A MiB goes at once, and the rest so slowly that the guest has to ask for it.
  private static let heldBack = MigrationPolicy(mostBytesPerSecond: 1 << 20, postcopy: .afterPasses(0))

  init() throws {
    sample = try SampleGuest()
    expected = try digests(of: sample.memory)
  }

  @Test("a guest that goes first gets every page that it touches, and then all others")
  func everythingFollows() throws {
    let resident = try sample.memory.residentPages()
    let move = try movePostcopy(ScriptedGuest(sample), over: [TestLinks()], Self.heldBack, expecting: expected)
    let (source, destination) = (try move.source.get(), try move.destination.get())
    #expect(move.hasStarted && move.hasReadRight)
    #expect(move.guest.calls == [.pause, .end])
    #expect(move.arrived?.state == sample.state)
    #expect(source.outstandingPageCount == Self.all && source.dataPageCount == 0)
    #expect(source.latePageCount == SampleGuest.dataPageCount && source.lateZeroPageCount == SampleGuest.zeroPageCount)
    #expect(destination.latePageCount == source.latePageCount)
    #expect(destination.pageWaits.count > 0 && destination.pageWaits.median != nil)
    #expect(source.downtimeSeconds != nil && move.events.contains(.left))
    #expect(move.arrived?.late?.missingByteCount == 0)
    #expect(try sample.memory.residentPages() == resident)
  }

  @Test("what was sent and written again follows the guest, and what was given back is zero", arguments: [1, 2])
  func afterPasses(_ count: Int) throws {
    let (written, given) = (pages(0x40000 + 100, 60), pages(0, 3))
    let guest = ScriptedGuest(sample, [.fill(written, with: 1), .fill(written, with: 2), .discard(given)])
    for act in guest.script { try act.body(sample.memory) }
    let last = try digests(of: sample.memory)
    let start = try SampleGuest()
    let move = try movePostcopy(
      ScriptedGuest(start, count == 1 ? [.fill(written, with: 2), .discard(given)] : guest.script), over: [TestLinks()],
      MigrationPolicy(downtimeLimit: .zero, postcopy: .afterPasses(count)), expecting: last)
    let (source, destination) = (try move.source.get(), try move.destination.get())
    #expect(move.hasReadRight)
    #expect(source.outstandingPageCount == written.byteCount / pageByteCount)
    #expect(source.passes.count == count)
    #expect(source.dataPageCount == destination.dataPageCount)
  }

  @Test("what the guest named as free does not follow it and reads as zeros, unless it was written since")
  func freePages() throws {
    let (free, written) = (pages(0x40000 + 150, 100), pages(0x40000 + 160, 10))
    let model = try SampleGuest()
    try model.memory.clear(free)
    try ScriptedGuest.Act.fill(written, with: 3).body(model.memory)
    var guest = ScriptedGuest(sample, [.fill(written, with: 3)])
    guest.hints = [[free]]
    let move = try movePostcopy(
      guest, over: [TestLinks()], MigrationPolicy(downtimeLimit: .zero, postcopy: .afterPasses(1)),
      expecting: digests(of: model.memory))
    let source = try move.source.get()
    #expect(move.hasReadRight && move.destination.value != nil)
    #expect(source.outstandingPageCount == 10 && source.skippedPageCount == 90)
  }

  @Test("a guest that writes too fast is given away all the same")
  func ifNeeded() throws {
    let busy = pages(0x40000 + 100, 300)
    let guest = ScriptedGuest(sample, habit: .fill(busy, with: 9))
    try ScriptedGuest.Act.fill(busy, with: 9).body(sample.memory)
    let last = try digests(of: sample.memory)
    let policy = MigrationPolicy(downtimeLimit: .zero, mostPasses: 3, postcopy: .ifNeeded)
    let move = try movePostcopy(guest, over: [TestLinks()], policy, expecting: last)
    #expect(try move.source.get().passes.count == 3)
    #expect(try move.source.get().outstandingPageCount == 300)
    #expect(move.hasReadRight)
  }

  @Test("a guest that writes little arrives whole, though its pages might have followed it")
  func notNeeded() throws {
    let move = try movePostcopy(
      ScriptedGuest(sample), over: [TestLinks()], MigrationPolicy(postcopy: .ifNeeded), expecting: expected)
    #expect(try move.source.get().outstandingPageCount == 0)
    #expect(move.arrived != nil && move.arrived?.late == nil)
    #expect(move.hasStarted && move.hasReadRight)
  }

  @Test("devices can be restored from pages that have not come yet")
  func restoring() throws {
    let last = address((0x40000 + 699) * pageByteCount)
    let expected = try sample.memory.readBytes(4096, at: last)
    let move = try movePostcopy(
      ScriptedGuest(sample), over: [TestLinks()], Self.heldBack, expecting: self.expected,
      restoring: { (memory) in
        if (try? memory.readBytes(4096, at: last)) != expected { Issue.record("another page") }
      })
    #expect(try move.destination.get().requestedPageCount > 0)
  }

  @Test("what the guest never used, or left zero, stays without memory unless it is touched")
  func untouched() throws {
    let move = try movePostcopy(
      ScriptedGuest(sample), over: [TestLinks()], MigrationPolicy(postcopy: .afterPasses(0)), expecting: [:])
    let memory = try #require(move.arrived?.memory)
    #expect(try memory.residentByteCount() == SampleGuest.dataPageCount * pageByteCount)
    #expect(try SampleGuest.contents(memory) == SampleGuest.contents(sample.memory))
  }

  @Test("whoever cannot ask for pages is refused before the first one")
  func unavailable() throws {
    let huge = DestinationLimits(mostMemory: 16 << 20, time: patience)
    let links = try TestLinks()
    var guest = ScriptedGuest(sample)
    let received = try Handover<Outcome<ArrivedGuest>>()
    let thread = try Thread(name: "destination") {
      received.put(
        outcome { () throws(MigrationError) in
          var destination = Destination(links.destination, producer: "destination", limits: huge)
          return try destination.receive(refusing: { (_) in "no pages may follow a guest here" })
        })
      links.destination.shutDown()
    }
    let sent = outcome { () throws(MigrationError) in
      try Source(links.source, producer: "source", timeLimit: patience)
        .move(&guest, policy: MigrationPolicy(postcopy: .afterPasses(0)))
    }
    thread.join()
    #expect(
      sent.error
        == .refused(source: "source", destination: "destination", reason: "no pages may follow a guest here"))
    #expect(received.wait().error == sent.error)
    #expect(!guest.calls.contains(.pause))
  }

  @Test("a move that is called off before the guest is given away leaves it here")
  func calledOff() throws {
    let cancellation = try Cancellation()
    let move = try movePostcopy(
      ScriptedGuest(sample), over: [TestLinks()], MigrationPolicy(postcopy: .afterPasses(0)), expecting: expected,
      unless: cancellation, watch: { if $0 == .stopping { cancellation.cancel() } })
    #expect(move.source.error == .cancelled)
    #expect(!move.hasStarted)
    #expect(move.guest.calls == [.pause, .end, .resume, .slowDown(1)])
  }

  @Test("late pages are held back to what the policy allows, and those waited for are not")
  func bandwidth() throws {
    let start = MonotonicClock.now
    let move = try movePostcopy(ScriptedGuest(sample), over: [TestLinks()], Self.heldBack, expecting: [:])
    // 329 pages, of which 256 go at once.
    #expect(MonotonicClock.now - start >= 200_000_000)
    #expect(try move.destination.get().latePageCount == SampleGuest.dataPageCount)
  }
}
