import Balloon
import GuestRAM
import Support
import Testing
import VirtioCore
import Virtqueue

@Suite("Balloon: free page hinting") struct HintingTests {
  private typealias Guest = BalloonGuest<Recorder>
  private static let stop: UInt32 = 0
  private static let done: UInt32 = 1

  private func guest() throws -> Guest { try Guest(reclaimer: Recorder()) }

  private func start(_ guest: Guest) throws -> UInt32 {
    try guest.host.update { (device) throws(BalloonError) in try device.startHinting() }
  }

  private func send(id: UInt32, _ guest: Guest) throws {
    #expect(try guest.send(bytes: Guest.bytes(id), to: Guest.hinting)?.byteCount == 0)
  }

  private func hint(_ range: GuestRange, _ guest: Guest) throws {
    let used = try guest.send([.writable(range.start.rawValue, UInt32(range.byteCount))], to: Guest.hinting)
    #expect(used?.byteCount == 0)
  }

  @Test("5.5.6.5: rounds count from 0x80000000, far from STOP and DONE, and tell the driver")
  func ids() throws {
    let guest = try guest()
    #expect(guest.config(at: 8) == Self.stop)
    #expect(try start(guest) == 0x8000_0000)
    #expect(guest.config(at: 8) == 0x8000_0000)
    #expect(try start(guest) == 0x8000_0001)
    guest.host.update { $0.stopHinting() }
    #expect(guest.config(at: 8) == Self.stop)
    guest.host.update { $0.finishHinting() }
    #expect(guest.config(at: 8) == Self.done)
    #expect(guest.notifications.all == [.configuration, .configuration, .configuration, .configuration])
    #expect(try start(guest) == 0x8000_0002)
  }

  @Test("5.5.6.5: free ranges between the current ID and STOP are hints, and nothing is discarded")
  func round() throws {
    let guest = try guest()
    let id = try start(guest)
    #expect(guest.host.device.hintPhase == .requested)
    try send(id: id, guest)
    #expect(guest.host.device.hintPhase == .active)
    try hint(pages(1024, 1024), guest)
    try hint(pages(2048, 1024), guest)
    try hint(pages(6000, 8), guest)
    try send(id: Self.stop, guest)
    #expect(guest.host.device.hintPhase == .ended)
    let hints = guest.host.update { $0.takeHints() }
    #expect(hints.round == id)
    #expect(hints.ranges == [pages(1024, 2048), pages(6000, 8)])
    #expect(hints.droppedByteCount == 0)
    #expect(guest.host.update { $0.takeHints() }.ranges.isEmpty)
    #expect(guest.host.device.reclaimer.events.isEmpty)
  }

  @Test("5.5.6.6: pages that must keep a value other than 0 are no hints", arguments: [0, 0xAAAA_AAAA] as [UInt32])
  func poisoned(value: UInt32) throws {
    let guest = try Guest(reclaimer: Recorder(), poisonValue: value)
    try send(id: start(guest), guest)
    try hint(pages(1024, 8), guest)
    #expect(guest.host.update { $0.takeHints() }.ranges == (value == 0 ? [pages(1024, 8)] : []))
  }

  @Test("5.5.6.5: ranges count for nothing before the ID, after STOP, and with another round's ID")
  func stale() throws {
    let guest = try guest()
    try hint(pages(1000), guest)
    let first = try start(guest)
    try hint(pages(1001), guest)
    try send(id: first, guest)
    let second = try start(guest)
    try hint(pages(1002), guest)
    try send(id: first, guest)
    try hint(pages(1003), guest)
    try send(id: Self.stop, guest)
    #expect(guest.host.device.hintPhase == .requested)
    try send(id: second, guest)
    try hint(pages(1004), guest)
    try send(id: Self.stop, guest)
    try hint(pages(1005), guest)
    try send(id: second, guest)
    try hint(pages(1006), guest)
    #expect(guest.host.update { $0.takeHints() }.ranges == [pages(1004)])
  }

  @Test("5.5.6.5: an ID that was never given begins nothing, and ends what runs", arguments: [1, 2, 0x8000_0001, .max])
  func strange(id: UInt32) throws {
    let guest = try guest()
    let current = try start(guest)
    try send(id: id, guest)
    try hint(pages(1000), guest)
    #expect(guest.host.device.hintPhase == .requested)
    try send(id: current, guest)
    try send(id: id, guest)
    try hint(pages(1001), guest)
    #expect(guest.host.device.hintPhase == .ended)
    #expect(guest.host.update { $0.takeHints() }.ranges.isEmpty)
  }

  @Test(
    "5.5.6.5: hints that were not taken before a round ends are gone: the pages may be in use", arguments: [0, 1, 2])
  func untaken(how: Int) throws {
    let guest = try guest()
    let id = try start(guest)
    try send(id: id, guest)
    try hint(pages(1000), guest)
    switch how {
    case 0: guest.host.update { $0.stopHinting() }
    case 1: guest.host.update { $0.finishHinting() }
    default: _ = try start(guest)
    }
    try hint(pages(1001), guest)
    #expect(guest.host.update { $0.takeHints() }.ranges.isEmpty)
  }

  @Test("5.5.6.5: an ID may come split, and together with ranges")
  func framing() throws {
    let guest = try guest()
    let id = try start(guest)
    let address = try guest.store(Guest.bytes(id))
    try guest.send(
      [.readable(address, 1), .readable(address + 1, 3), .writable(0x40_0000, 0x2000), .writable(0x60_0000, 0x1000)],
      to: Guest.hinting)
    #expect(guest.host.update { $0.takeHints() }.ranges == [pages(1024, 2), pages(1536)])
  }

  @Test("5.5.6.5: an ID that is cut off is none", arguments: [0, 1, 3])
  func cutOff(count: Int) throws {
    let guest = try guest()
    let id = try start(guest)
    try guest.send(bytes: Array(Guest.bytes(id).prefix(count)), to: Guest.hinting)
    #expect(guest.host.device.hintPhase == .requested)
    #expect(guest.host.failure == nil)
  }

  @Test("hints outside the guest's memory are left out, and parts of pages too")
  func outside() throws {
    let guest = try guest()
    try send(id: start(guest), guest)
    let end: UInt64 = 32 << 20
    let used = try guest.send(
      [
        .writable(end - 0x1000, 0x2000), .writable(0x40_0800, 0x1800), .writable(0x50_0001, 0xFFE), .writable(0, 0),
        .writable(.max - 0xFFF, 0x1000), .writable(.max - 0xFFF, 0x1001), .writable(1 << 50, .max - 0x8000),
      ], to: Guest.hinting)
    #expect(used != nil)
    #expect(guest.host.failure == nil)
    #expect(guest.host.update { $0.takeHints() }.ranges == [pages(8191), pages(1025)])
  }

  @Test("hints are kept up to a bound; what is missing is counted")
  func bound() throws {
    let memory = try GuestMemory(byteCount: 1 << 30)
    let guest = try Guest(reclaimer: Recorder(), memory: memory)
    try send(id: start(guest), guest)
    // Every other page, so that none joins another: 65536 of them, then 4 more.
    for first in stride(from: UInt64(1024), to: 1024 + 2 * 65_540, by: 120) {
      let pages = stride(from: first, to: min(first + 120, 1024 + 2 * 65_540), by: 2)
      try guest.rings[Guest.hinting]?.add(pages.map { RingFixture.Buffer.writable($0 * 4096, 4096) })
      try guest.rings[Guest.hinting]?.publish()
      guest.host.kick(Guest.hinting)
      #expect(try guest.rings[Guest.hinting]?.takeUsed() != nil)
    }
    let hints = guest.host.update { $0.takeHints() }
    #expect(hints.ranges.count == 65_536)
    #expect(hints.droppedByteCount == 4 * 4096)
  }

  @Test("5.5.6.5: without the feature there is nothing to ask for")
  func notNegotiated() throws {
    let guest = try Guest(reclaimer: Recorder(), accepting: Bit.statistics)
    #expect(throws: BalloonError.hintingNotNegotiated) { try start(guest) }
    #expect(guest.config(at: 8) == Self.stop)
  }

  @Test("2.4.1: a guest that starts anew has taken its pages back")
  func reset() throws {
    let guest = try guest()
    try send(id: start(guest), guest)
    try hint(pages(1000), guest)
    guest.host.reset()
    #expect(guest.host.update { $0.takeHints() }.ranges.isEmpty)
    #expect(guest.host.device.hintPhase == .idle)
    #expect(guest.config(at: 8) == Self.stop)
  }
}
