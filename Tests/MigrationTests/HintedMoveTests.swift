import GuestRAM
import Support
import Testing

@testable import Migration

/// What is left out and what is not when a guest names its free pages.
@Suite("Migration: free pages") struct HintedMoveTests {
  private static let never = Duration.zero
  private static let policy = MigrationPolicy(downtimeLimit: never, verifies: true)

  private func isZero(_ memory: GuestMemory, _ range: GuestRange) throws -> Bool {
    try memory.readBytes(Int(range.byteCount), at: range.start).allSatisfy { $0 == 0 }
  }

  private func isSame(_ memory: GuestMemory, _ other: GuestMemory, _ range: GuestRange) throws -> Bool {
    try memory.readBytes(Int(range.byteCount), at: range.start)
      == other.readBytes(Int(range.byteCount), at: range.start)
  }

  @Test("free pages are not sent, get no memory, and are told apart from those that had none")
  func skipped() throws {
    let sample = try SampleGuest()
    var guest = ScriptedGuest(sample)
    // Data, data beside a hole, and a hole; twice, and in no order.
    guest.hints = [[pages(0x40000 + 150, 100), pages(7, 5), pages(0x40000 + 150, 10), pages(2, 1)]]
    let move = try moveLive(guest, over: TestLinks(), policy: Self.policy)
    let (report, arrived) = (try #require(move.source.value), try #require(move.destination.value).guest.memory)
    let resident = try arrived.residentRanges()
    for range in [pages(0x40000 + 150, 100), pages(7, 5), pages(2, 1)] {
      #expect(resident.allSatisfy { $0.overlap(range) == nil })
    }
    for range in [pages(0, 2), pages(40, 24), pages(0x40000 + 100, 50), pages(0x40000 + 250, 150)] {
      #expect(try isSame(arrived, sample.memory, range))
    }
    #expect(report.isVerified)
    // Pages 9 to 11 had no memory.
    #expect(report.skippedPageCount == 103)
    let pageCount = SampleGuest.regions.reduce(0) { $0 + $1.byteCount } / pageByteCount
    #expect(report.dataPageCount + report.zeroPageCount + report.skippedPageCount + report.absentPageCount == pageCount)
    #expect(move.guest.hintRounds == (1, 1))
  }

  @Test("a free page that is written later arrives as it was written, and counts as sent")
  func reused() throws {
    let sample = try SampleGuest()
    var guest = ScriptedGuest(sample, [.fill(pages(0x40000 + 160, 10), with: 5), .fill(pages(41, 1), with: 6)])
    guest.hints = [[pages(0x40000 + 150, 100), pages(40, 4)]]
    let move = try moveLive(guest, over: TestLinks(), policy: Self.policy)
    let arrived = try #require(move.destination.value).guest.memory
    for range in [pages(0x40000 + 160, 10), pages(41, 1)] { #expect(try isSame(arrived, sample.memory, range)) }
    for range in [pages(0x40000 + 150, 10), pages(40, 1), pages(42, 2)] { #expect(try isZero(arrived, range)) }
    #expect(move.source.value?.skippedPageCount == 93)
    #expect(move.source.value?.isVerified == true)
  }

  @Test("what was written while the guest was watched for a forecast is sent though it is named as free")
  func watched() throws {
    let sample = try SampleGuest()
    var guest = ScriptedGuest(sample, [.fill(pages(41, 1), with: 5), .fill(pages(43, 2), with: 6)])
    guest.hints = [[pages(40, 8)]]
    let policy = MigrationPolicy(downtimeLimit: Self.never, forecasts: true, verifies: true)
    let move = try moveLive(guest, over: TestLinks(), policy: policy)
    let arrived = try #require(move.destination.value).guest.memory
    for range in [pages(41, 1), pages(43, 2)] { #expect(try isSame(arrived, sample.memory, range)) }
    for range in [pages(40, 1), pages(42, 1), pages(45, 3)] { #expect(try isZero(arrived, range)) }
    #expect(move.source.value?.skippedPageCount == 5)
  }

  @Test("hints that are no whole pages, or reach beyond all addresses, or come too late, change nothing")
  func useless() throws {
    let sample = try SampleGuest()
    var guest = ScriptedGuest(sample)
    let useless = [
      GuestRange(start: address(40 * pageByteCount + 1), byteCount: pageByteCount),
      GuestRange(start: address(40 * pageByteCount), byteCount: 100), GuestRange(start: address(0), byteCount: 0),
      GuestRange(start: address(.max & ~4095), byteCount: 1 << 20), pages(0x9_0000, 10),
    ]
    // All of this guest is named by the first plan.
    guest.hints = [[], useless, [pages(0, 64)]]
    let move = try moveLive(guest, over: TestLinks(), policy: Self.policy)
    #expect(move.source.value?.skippedPageCount == 0)
    let arrived = try #require(move.destination.value).guest.memory
    for range in SampleGuest.regions { #expect(try isSame(arrived, sample.memory, range)) }
  }

  @Test("a copy that has something where a page was left out is not the guest")
  func differs() throws {
    let sample = try SampleGuest()
    let zero = GuestMemory.digest(of: [UInt8](repeating: 0, count: 4096))
    func compare(_ digests: [UInt64]) throws(MigrationError) {
      var check = try PageCheck(sample.memory, leftOut: [pages(1, 2)])
      try check.compare(PageDigests(start: address(0), digests: digests))
    }
    let own = try (0..<3).map {
      GuestMemory.digest(of: try sample.memory.readBytes(4096, at: address($0 * pageByteCount)))
    }
    try compare([own[0], zero, zero])
    #expect(throws: MigrationError.pageDiffers(address(2 * pageByteCount))) { try compare([own[0], zero, own[2]]) }
  }

  @Test("whatever a guest writes, names as free and uses again, all that it counts on arrives")
  func random() throws {
    var numbers = SeededGenerator(for: "moves with free pages")
    for _ in 0..<40 { try moveRandom(&numbers) }
  }

  private func moveRandom(_ numbers: inout SeededGenerator) throws {
    let seed = numbers.seed
    let sample = try SampleGuest()
    func range() -> GuestRange {
      let count = 1 + numbers.next() % 20
      return numbers.next() % 2 == 0 ? pages(numbers.next() % 44, count) : pages(0x40000 + numbers.next() % 680, count)
    }
    var guest = ScriptedGuest(sample, (0..<6).map { .fill(range(), with: UInt8($0 + 1)) })
    guest.hints = (0..<3).map { _ in (0..<8).map { _ in range() } }
    let free = guest.hints.joined().map(\.self)
    let written = guest.script.flatMap(\.ranges)
    let forecasts = numbers.next() % 2 == 0
    let policy = MigrationPolicy(
      downtimeLimit: Self.never, compresses: numbers.next() % 2 == 0, forecasts: forecasts, verifies: true)
    let move = try moveLive(guest, over: TestLinks(), policy: policy)
    #expect(move.source.value?.isVerified == true, "VIRTIOKIT_SEED=\(seed)")
    let arrived = try #require(move.destination.value, "VIRTIOKIT_SEED=\(seed)").guest.memory
    for region in SampleGuest.regions {
      for number in region.start.rawValue / pageByteCount..<(region.start.rawValue + region.byteCount) / pageByteCount {
        let page = pages(number, 1)
        let isFree = free.contains { $0.overlap(page) != nil } && !written.contains { $0.overlap(page) != nil }
        let isRight = try isSame(arrived, sample.memory, page)
        let isLeftOut = try isZero(arrived, page)
        #expect(isRight || isFree && isLeftOut, "page \(number), VIRTIOKIT_SEED=\(seed)")
      }
    }
  }
}
