import Glibc
import GuestRAM
import LinuxIO
import Synchronization
import Testing

@testable import Migration

/// The memory that a destination has made, for a test that changes it behind the destination's back.
private final class Handle: Sendable {
  private let memory = Mutex<GuestMemory?>(nil)

  func keep(_ new: GuestMemory) -> GuestMemory {
    memory.withLock { $0 = new }
    return new
  }

  /// - Parameter source: where the page that the address lies in has data that comes first: what has been received may get
  ///   to its place a little later.
  func flip(at address: GuestAddress, afterDataOf source: GuestMemory?) {
    guard let memory = memory.withLock({ $0 }) else { return }
    let page = pages(address.rawValue / pageByteCount, 1)
    do {
      while let source, try memory.digest(page) != source.digest(page) { sched_yield() }
      try memory.write(memory.read(UInt8.self, at: address) ^ 0x10, at: address)
    } catch {
      Issue.record(error)
    }
  }
}

@Suite("Migration: verification") struct VerificationTests {
  /// Changes a byte at the destination after all pages have come and before they are compared.
  private func move(
    flippingAt address: GuestAddress, hasData: Bool = true, verifies: Bool = true
  ) throws -> Move {
    let (handle, guest) = (Handle(), try SampleGuest())
    let links = try TestLinks(watch: { (received) in
      if received.count == Frame.headerByteCount, received.starts(with: [8, 0]) {
        handle.flip(at: address, afterDataOf: hasData ? guest.memory : nil)
      }
    })
    return try MigrationTests.move(
      guest, over: links, verifies: verifies,
      makeMemory: { (description) throws(GuestMemoryError) in handle.keep(try description.makeMemory()) })
  }

  @Test(
    "a byte that differs at the destination is found by its page, and the source may run on",
    arguments: [(UInt64(0), UInt64(5)), (40, 4095), (0x400FF, 0), (0x402BB, 7)])
  func differs(page: UInt64, offset: UInt64) throws {
    let move = try move(flippingAt: address(page * 4096 + offset))
    let error = MigrationError.pageDiffers(address(page * 4096))
    #expect(move.source.error == error)
    #expect(error.sourceMayRun)
    #expect(move.destination.error == .peerFailed(error.description))
  }

  @Test("so is one where the guest has nothing, or zeros", arguments: [20, 4, 8, 0x40000 + 450, 0x40000 + 698])
  func differsInHole(page: UInt64) throws {
    let move = try move(flippingAt: address(page * 4096 + 9), hasData: false)
    #expect(move.source.error == .pageDiffers(address(page * 4096)))
    #expect(move.destination.error != nil)
  }

  @Test("without verification the difference goes unnoticed, and the reports say that nothing was verified")
  func unverified() throws {
    let move = try move(flippingAt: address(5), verifies: false)
    #expect(try #require(move.source.value).isVerified == false)
    #expect(try #require(move.source.value).comparedPageCount == 0)
    #expect(try #require(move.destination.value).report.isVerified == false)
  }

  @Test("a write to the source's memory during the move is found too")
  func sourceChanges() throws {
    let guest = try SampleGuest()
    let page = SampleGuest.data[3].start
    let links = try TestLinks(watch: { (received) in
      guard received.count == Frame.headerByteCount, received.starts(with: [8, 0]) else { return }
      do {
        try guest.memory.write(UInt8(1), at: page)
      } catch {
        Issue.record(error)
      }
    })
    let move = try MigrationTests.move(guest, over: links)
    #expect(move.source.error == .pageDiffers(page))
    #expect(move.destination.error != nil)
  }

  @Test("a copy that leaves out a page of data, or the last ones, is not the guest")
  func leftOut() throws {
    let guest = try SampleGuest().memory
    var digests: [UInt64] = []
    try guest.appendPageDigests(of: pages(0, 3), to: &digests)
    var check = try PageCheck(guest)
    try check.compare(PageDigests(start: address(0), digests: digests))
    #expect(check.comparedCount == 3)
    #expect(outcome { () throws(MigrationError) in try check.finish() }.error == .pageDiffers(address(7 * 4096)))
  }

  @Test(
    "digests that go back, leave the regions or are not of whole pages are refused",
    arguments: [
      (UInt64(4096), 1), (0, 1), (0x40000, 1), (0x3FFF_F000, 1), (0x3F000, 2), (0x5008, 1), (UInt64.max, 1),
    ])
  func misplaced(start: UInt64, count: Int) throws {
    let guest = try GuestDescription(regions: SampleGuest.regions, notes: []).makeMemory()
    let zero = GuestMemory.digest(of: [UInt8](repeating: 0, count: 4096))
    var check = try PageCheck(guest)
    try check.compare(PageDigests(start: address(4096), digests: [zero]))
    let failure = outcome { () throws(MigrationError) in
      try check.compare(PageDigests(start: address(start), digests: [UInt64](repeating: zero, count: count)))
    }
    #expect(failure.error == .misplacedPages(address(start), pageCount: UInt64(count)))
    #expect(try guest.residentByteCount() == 0)
  }

  @Test("a frame of digests has an address and 1 to 4096 whole digests", arguments: [0, 3, 8, 15, 17, 8 * 4098])
  func malformed(byteCount: Int) throws {
    let payload = [UInt8](repeating: 0, count: byteCount)
    #expect(outcome { () throws(MigrationError) in try PageDigests(payload) }.error == .malformedFrame(.digests))
    let whole = PageDigests(start: address(4096), digests: [UInt64](0..<4096))
    #expect(try PageDigests(whole.payload) == whole)
  }
}
