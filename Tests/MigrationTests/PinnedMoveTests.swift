import GuestRAM
import LinuxIO
import Testing

@testable import Migration

@Suite("Migration: pinned memory") struct PinnedMoveTests {
  private static var pinning: DestinationLimits {
    var limits = limits
    limits.pinsMemory = true
    return limits
  }

  @Test("what arrives is pinned, and what the guest never had costs nothing")
  func destination() throws {
    let guest = try SampleGuest()
    let moved = try move(guest, limits: Self.pinning)
    let arrived = try moved.destination.get()
    #expect(arrived.guest.memory.isPinned)
    #expect(arrived.report.pinnedPageCount == SampleGuest.dataPageCount)
    #expect(try arrived.guest.memory.residentByteCount() == SampleGuest.dataPageCount * pageByteCount)
    #expect(try SampleGuest.contents(arrived.guest.memory) == SampleGuest.contents(guest.memory))
    #expect(try move(guest).destination.get().report.pinnedPageCount == 0)
  }

  @Test("pages that become zero while the guest is moved go back to the host from pinned memory too")
  func emptied() throws {
    let sample = try SampleGuest()
    let gone = pages(0x40000 + 100, 20)
    var guest = ScriptedGuest(sample, [.init(ranges: [gone]) { (memory) in try memory.discard(gone) }])
    let links = try TestLinks()
    let received = try Handover<Outcome<Move.Arrived>>()
    let thread = try Thread(name: "destination") {
      received.put(
        outcome { () throws(MigrationError) in
          var destination = Destination(links.destination, producer: "destination", limits: Self.pinning)
          let guest = try destination.receive()
          return Move.Arrived(guest: guest, report: try destination.confirm())
        })
    }
    let report = try Source(links.source, producer: "source", timeLimit: patience).move(
      &guest, policy: MigrationPolicy(downtimeLimit: .seconds(10), verifies: true, pinsMemory: true))
    thread.join()
    let arrived = try received.wait().get().guest.memory
    #expect(try arrived.residentRanges(in: gone).isEmpty)
    #expect(try SampleGuest.contents(arrived) == SampleGuest.contents(sample.memory))
    #expect(report.isVerified && report.pinnedPageCount == SampleGuest.dataPageCount + SampleGuest.zeroPageCount)
    #expect(!sample.memory.isPinned)
  }

  @Test("memory that was pinned before a move stays so", arguments: [true, false])
  func staysPinned(pinsMemory: Bool) throws {
    let sample = try SampleGuest()
    try sample.memory.pin()
    var guest = ScriptedGuest(sample)
    let links = try TestLinks()
    links.destination.shutDown()
    let sent = outcome { () throws(MigrationError) in
      try Source(links.source, producer: "source", timeLimit: patience)
        .move(&guest, policy: MigrationPolicy(pinsMemory: pinsMemory))
    }
    #expect(sent.error != nil && sample.memory.isPinned)
  }
}
