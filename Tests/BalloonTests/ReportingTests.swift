import Balloon
import GuestRAM
import Support
import Testing
import VirtioCore
import Virtqueue

@Suite("Balloon: free page reporting") struct ReportingTests {
  private typealias Guest = BalloonGuest<Recorder>

  @Test("5.5.6.7: every range of a report is released, and the chain comes back with length 0")
  func report() throws {
    let guest = try Guest(reclaimer: Recorder())
    let ranges = (UInt64(0)..<32).map { 0x40_0000 + $0 * 0x4000 }
    let used = try guest.send(ranges.map { .writable($0, 0x2000) }, to: Guest.reporting)
    #expect(used?.byteCount == 0)
    #expect(guest.host.device.reclaimer.events == ranges.map { .released(pages($0 / 4096, 2)) })
    #expect(guest.host.device.counters.reportedBytes == 32 * 0x2000)
    #expect(guest.host.device.counters.inflatedPages == 0)
  }

  @Test("5.5.6.7: pages are released before the report is answered")
  func order() throws {
    let guest = try Guest(reclaimer: Recorder())
    let ring = try #require(guest.rings[Guest.reporting])
    let memory = guest.memory
    try memory.write(UInt32.max, at: ring.usedRing.offset(4))
    var seen: [UInt32?] = []
    guest.host.update {
      $0.reclaimer.look = { seen.append(try? memory.read(UInt32.self, at: ring.usedRing.offset(4))) }
    }
    try guest.send([.writable(0x40_0000, 0x1000), .writable(0x60_0000, 0x1000)], to: Guest.reporting)
    #expect(seen == [.max, .max])
  }

  @Test("5.5.6.7: pages that must keep a value other than 0 are not touched", arguments: [1, 0xAAAA_AAAA] as [UInt32])
  func poisoned(value: UInt32) throws {
    let guest = try Guest(reclaimer: Recorder(), poisonValue: value)
    let used = try guest.send([.writable(0x40_0000, 0x1000)], to: Guest.reporting)
    #expect(used?.byteCount == 0)
    #expect(guest.host.device.reclaimer.events.isEmpty)
    #expect(guest.host.device.counters.reportedBytes == 0)
  }

  @Test("5.5.6.7: pages that must read as 0 may go, since they come back as zeros")
  func zero() throws {
    let guest = try Guest(reclaimer: Recorder(), poisonValue: 0)
    try guest.send([.writable(0x40_0000, 0x1000)], to: Guest.reporting)
    #expect(guest.host.device.reclaimer.events == [.released(pages(1024))])
  }

  @Test("5.5.6.6: poison_val means nothing unless PAGE_POISON was negotiated")
  func notNegotiated() throws {
    let guest = try Guest(reclaimer: Recorder(), accepting: Bit.all & ~Bit.poison, poisonValue: 7)
    try guest.send([.writable(0x40_0000, 0x1000)], to: Guest.reporting)
    #expect(guest.host.device.reclaimer.events == [.released(pages(1024))])
  }

  @Test("5.5.6.6: inflated pages go whatever the poison: the driver fills them when it uses them again")
  func inflated() throws {
    let guest = try Guest(reclaimer: Recorder(), poisonValue: 7)
    try guest.send(frames: [1000], to: Guest.inflate)
    #expect(guest.host.device.reclaimer.events == [.gaveUp(pages(1000))])
  }

  @Test("only whole pages of the guest's memory are released")
  func odd() throws {
    let guest = try Guest(reclaimer: Recorder())
    let end: UInt64 = 32 << 20
    let used = try guest.send(
      [
        .writable(0x40_0800, 0x1800), .writable(0x50_0001, 0xFFF), .writable(end - 0x1000, 0x10_0000),
        .writable(end, 0x1000), .writable(.max, 1), .writable(.max - 1, 0x1000), .writable(0x70_0000, 0),
      ], to: Guest.reporting)
    #expect(used?.byteCount == 0)
    #expect(guest.host.failure == nil)
    #expect(guest.host.device.reclaimer.events == [.released(pages(1025)), .released(pages(8191))])
    #expect(guest.host.device.counters.ignoredBytes == 0x800 + 0xFFF + 0xF_F000 + 0x1000 + 1 + 0x1000)
  }

  @Test("device-readable buffers of a report are no ranges")
  func readable() throws {
    let guest = try Guest(reclaimer: Recorder())
    try guest.send([.readable(0x50_0000, 0x1000), .writable(0x40_0000, 0x1000)], to: Guest.reporting)
    #expect(guest.host.device.reclaimer.events == [.released(pages(1024))])
  }

  @Test("what the host refuses is counted, and the report is answered")
  func failure() throws {
    let guest = try Guest(reclaimer: Recorder())
    let failure = GuestMemoryError.unaligned(GuestAddress(1), multipleOf: 4096)
    guest.host.update { $0.reclaimer.failure = failure }
    #expect(try guest.send([.writable(0x40_0000, 0x1000)], to: Guest.reporting) != nil)
    #expect(guest.host.device.lastFailure == failure)
    #expect(guest.host.device.counters.reportedBytes == 0)
  }
}
