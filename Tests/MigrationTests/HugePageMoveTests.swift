import LinuxIO
import Support
import Testing

@testable import GuestRAM
@testable import Migration

@Suite(
  "Migration: memory that arrives in huge pages",
  .enabled(if: HugePages.canBeHad, Comment(rawValue: HugePages.whySkipped)))
struct HugePageMoveTests {
  @Test("of a guest whose memory is full no page has memory there that has none here", arguments: [0, 1, 3])
  func dense(count: Int) throws {
    let guest = try WideGuest(isDense: true)
    let move = try move(guest, over: LaneLinks(count: count))
    let arrived = try #require(move.destination.value).guest.memory
    #expect(move.source.value?.isVerified == true)
    // As many as the kernel gives: it may be busy.
    #expect(try arrived.regions[0].mapping.hugeByteCount > 0)
    let zeros = [pages(5003, 1), pages(10006, 1)]
    #expect(try arrived.residentRanges() == guest.memory.residentRanges().subtracting(zeros))
    #expect(try WideGuest.digests(arrived) == WideGuest.digests(guest.memory))
  }

  @Test("pages that become zero while the guest moves take no memory there, huge or not", arguments: [0, 2])
  func thinned(count: Int) throws {
    let guest = try WideGuest(isDense: true)
    let links = try LaneLinks(count: count)
    let gone = pages(1000, 2000)
    var live = ScriptedGuest(SampleGuest(memory: guest.memory, state: [7]), [.discard(gone)])
    let move = try move(over: links) { () throws(MigrationError) in
      try Source(links.main.source, further: links.lanes.map(\.source), producer: "source", timeLimit: patience)
        .move(&live, policy: MigrationPolicy(downtimeLimit: .zero, verifies: true))
    }
    #expect(move.source.value?.isVerified == true)
    let arrived = try #require(move.destination.value).guest.memory
    #expect(try arrived.residentRanges(in: gone) == [])
    #expect(try WideGuest.digests(arrived) == WideGuest.digests(guest.memory))
  }

  @Test("a destination that wants none gets none")
  func unwanted() throws {
    var limits = wideLimits
    limits.usesHugePages = false
    let guest = try WideGuest(isDense: true)
    let live = ScriptedGuest(SampleGuest(memory: guest.memory, state: [7]))
    let move = try moveLive(live, over: TestLinks(), limits: limits)
    #expect(try #require(move.destination.value).guest.memory.regions[0].mapping.hugeByteCount == 0)
  }

  @Test(
    "where pages may follow the guest none is huge: who waits for one that was taken out has to find it gone",
    .enabled(if: MissingPages.isAvailable, "SKIPPED: this process may not have a userfaultfd for system calls"))
  func late() throws {
    let guest = try WideGuest(isDense: true)
    let expected = try digests(of: guest.memory)
    let move = try movePostcopy(
      ScriptedGuest(SampleGuest(memory: guest.memory, state: [7])), over: [TestLinks()],
      MigrationPolicy(postcopy: .ifNeeded), limits: wideLimits, expecting: expected)
    #expect(move.hasStarted && move.hasReadRight)
    #expect(try #require(move.arrived).memory.regions[0].mapping.hugeByteCount == 0)
  }

  @Test("a page that cannot be taken out of a huge one, so that nobody would miss it, is not waited for")
  func takeOut() throws {
    let memory = try GuestMemory(byteCount: 4 << 20)
    let region = memory.regions[0]
    let file = try #require(region.file)
    let isHuge = region.mapping.makeHugePageAtLast(at: 0, of: file.descriptor)
    #expect(isHuge)
    try memory.write(UInt64(9), at: address(5 * pageByteCount))
    let pipe = try region.mapping.pageInPipe(at: 7 * Int(pageByteCount))
    let error = outcome { () throws(MigrationError) in try memory.takeOut([pages(2, 1), pages(5, 2)]) }.error
    guard case .postcopyUnavailable(let reason)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(reason.contains("pages are still there"))
    _ = try pipe.reading.readBytes(upTo: 4096)
    try memory.takeOut([pages(2, 1), pages(5, 2)])
    #expect(try memory.residentRanges(in: [pages(2, 1), pages(5, 2)]) == [])
  }
}
