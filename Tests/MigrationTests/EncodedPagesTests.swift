import GuestRAM
import LinuxIO
import Support
import Testing

@testable import Migration

@Suite("Migration: encoded pages") struct EncodedPagesTests {
  private static let policy = MigrationPolicy(
    downtimeLimit: .zero, compresses: true, cacheByteCount: 8 << 20, verifies: true)

  @Test("pages that are encoded arrive as they are: compressed, changed a little, zero, back to what they were")
  func moves() throws {
    let sample = try SampleGuest()
    let before = try sample.memory.readBytes(4096, at: address(7 * 4096))
    let guest = ScriptedGuest(
      sample,
      [
        .fill(pages(40, 4), with: 7), .write([1, 2, 3], at: address((0x40000 + 100) * 4096 + 50)),
        .write([9], at: address((0x40000 + 100) * 4096 + 4000)), .fill(pages(41, 2), with: 0), .discard(pages(7, 1)),
        .write(before, at: address(7 * 4096)), .fill(pages(41, 1), with: 8),
      ])
    let move = try moveLive(guest, over: TestLinks(), policy: Self.policy)
    let arrived = try #require(move.destination.value).guest.memory
    for range in SampleGuest.regions {
      let count = Int(range.byteCount)
      #expect(try arrived.readBytes(count, at: range.start) == sample.memory.readBytes(count, at: range.start))
    }
    let report = try #require(move.source.value?.codec)
    // The sample's pages are zeros but for 96 bytes.
    #expect(report.lz4.pageCount + report.delta.pageCount >= SampleGuest.dataPageCount)
    #expect(report.delta.pageCount >= 2)
    #expect(report.byteCountOut < report.byteCountIn / 4)
  }

  @Test(
    "every payload cut short, and every byte changed, is refused or decodes to whole pages; nothing else is touched")
  func hostile() throws {
    let sample = try SampleGuest()
    var frame = PageFrame()
    _ = frame.append(PageRun(start: address(0), pageCount: 2, isZero: false))
    let payload = try PageEncoder(cacheByteCount: 0).payload(of: frame, sample.memory, linkSpeed: 0)
    for count in 0..<payload.count { store(Array(payload.prefix(count)), isCut: true) }
    for index in payload.indices {
      var changed = payload
      changed[index] ^= 0x41
      store(changed, isCut: false)
    }
  }

  private func store(_ payload: [UInt8], isCut: Bool) {
    let result = outcome { () throws(MigrationError) in
      let memory = try inGuestMemory { () throws(GuestMemoryError) in try GuestMemory(byteCount: 4 * 4096) }
      var pages = try EncodedPages(payload)
      var count = 0
      while count < 2, !pages.isAtEnd {
        try pages.storeNext(at: GuestAddress(UInt64(count) * 4096), memory)
        count += 1
      }
      guard pages.isAtEnd, count * 4096 == pages.byteCount else { throw .malformedFrame(.encoded) }
    }
    if isCut { #expect(result.error != nil) }
    switch result.error {
    case nil, .malformedFrame(.encoded), .damagedPages: break
    case let error: Issue.record("\(String(describing: error))")
    }
  }
}

extension ScriptedGuest.Act {
  /// Stores some bytes.
  static func write(_ bytes: [UInt8], at address: GuestAddress) -> ScriptedGuest.Act {
    let first = address.rawValue / 4096
    let last = (address.rawValue + UInt64(bytes.count) - 1) / 4096
    return ScriptedGuest.Act(ranges: [pages(first, last - first + 1)]) { try $0.write(bytes: bytes, at: address) }
  }
}
