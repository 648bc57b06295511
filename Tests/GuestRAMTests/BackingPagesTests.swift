import LinuxIO
import Support
import Testing

@testable import GuestRAM

/// What 2 MiB pages need, upon memory of 4 KiB pages that is said to have them: few machines have set huge pages aside.
@Suite("GuestRAM: large backing pages")
struct BackingPagesTests {
  static let page: UInt64 = 2 << 20

  /// The ranges that giving up releases.
  static func giveUp(_ range: GuestRange, _ pages: inout BackingPages) -> [GuestRange] {
    var released: [GuestRange] = []
    pages.giveUp(range) { released.append($0) }
    return released
  }

  static func pages(_ range: GuestRange, hostOffset: UInt64 = 0) -> BackingPages {
    BackingPages(regions: [(range, hostOffset: Int(hostOffset), pageByteCount: Int(page))])
  }

  @Test("5.5.6: a large page goes back with its last 4 KiB piece, whatever the order, and not before")
  func lastPiece() {
    var random = SeededGenerator(for: "BackingPagesTests.lastPiece")
    var pages = Self.pages(range(0x4000_0000, 4 * Self.page))
    let start = 0x4000_0000 + Self.page
    let pieces = (0..<512).map { range(start + UInt64($0) * 4096, 4096) }.shuffled(using: &random)
    for piece in pieces.dropLast() { #expect(Self.giveUp(piece, &pages) == []) }
    #expect(pages.heldBack.reduce(0) { $0 + $1.byteCount } == 511 * 4096)
    #expect(Self.giveUp(pieces[511], &pages) == [range(start, Self.page)])
    #expect(pages.heldBack == [])
  }

  @Test("5.5.6: pieces taken back keep their page, until they are given up again")
  func takeBack() {
    var pages = Self.pages(range(0, 2 * Self.page))
    #expect(Self.giveUp(range(0, Self.page - 4096), &pages) == [])
    pages.takeBack(range(0x5000, 4096))
    #expect(Self.giveUp(range(Self.page - 4096, 4096), &pages) == [])
    #expect(pages.heldBack == [range(0, 0x5000), range(0x6000, Self.page - 0x6000)])
    #expect(Self.giveUp(range(0x5000, 4096), &pages) == [range(0, Self.page)])
    pages.takeBack(range(0x7000, 1))
    #expect(pages.heldBack == [range(0, 0x7000), range(0x8000, Self.page - 0x8000)])
  }

  @Test("a long range is released in runs of whole pages, and the ends are held back")
  func runs() {
    var pages = Self.pages(range(0, 8 * Self.page))
    let released = Self.giveUp(range(4096, 4 * Self.page), &pages)
    #expect(released == [range(Self.page, 3 * Self.page)])
    #expect(pages.heldBack == [range(4096, Self.page - 4096), range(4 * Self.page, 4096)])
  }

  @Test("pages that one range completes apart from each other are released apart")
  func separateRuns() {
    var pages = Self.pages(range(0, 3 * Self.page))
    #expect(Self.giveUp(range(0, 3 * Self.page), &pages) == [range(0, 3 * Self.page)])
    pages.takeBack(range(Self.page, 4096))
    #expect(
      Self.giveUp(range(0, Self.page), &pages) + Self.giveUp(range(2 * Self.page, Self.page), &pages)
        == [range(0, Self.page), range(2 * Self.page, Self.page)])
    #expect(pages.heldBack == [range(Self.page + 4096, Self.page - 4096)])
  }

  @Test("a piece is given up only whole, and taken back if any byte of it is used")
  func partsOfPieces() {
    var pages = Self.pages(range(0, Self.page))
    #expect(Self.giveUp(range(1, Self.page - 1), &pages) == [])
    #expect(Self.giveUp(range(0, 4095), &pages) == [])
    #expect(Self.giveUp(range(100, 0), &pages) == [])
    #expect(pages.heldBack == [range(4096, Self.page - 4096)])
    pages.takeBack(range(0x1FFF, 2))
    #expect(pages.heldBack == [range(0x3000, Self.page - 0x3000)])
    #expect(Self.giveUp(range(0, 0x3000), &pages) == [range(0, Self.page)])
  }

  @Test("backing pages are counted from the start of the file: a region that begins within one never frees that one")
  func regionWithinPages() {
    let lead: UInt64 = 0xC0000
    let region = range(0x1000_0000, 3 * Self.page)
    var pages = Self.pages(region, hostOffset: 5 * Self.page + lead)
    let first = region.start.rawValue + (Self.page - lead)
    #expect(Self.giveUp(region, &pages) == [range(first, 2 * Self.page)])
    #expect(
      pages.heldBack == [
        range(region.start.rawValue, Self.page - lead), range(first + 2 * Self.page, lead),
      ])
  }

  @Test("pieces that do not fall into line with the backing pages free a page only with all that touch it")
  func crookedRegion() {
    let region = range(0x800, 2 * Self.page)
    var pages = Self.pages(region, hostOffset: 0x300)
    let whole = range(0x800 + Self.page - 0x300, Self.page)
    #expect(Self.giveUp(range(0x800, 2 * Self.page - 1), &pages) == [])
    #expect(Self.giveUp(range(0x800 + 2 * Self.page - 4096, 4096), &pages) == [whole])
    pages.takeBack(range(whole.start.rawValue, 1))
    #expect(Self.giveUp(range(0x800 + Self.page, 4096), &pages) == [])
    #expect(Self.giveUp(range(0x800 + Self.page - 4096, 4096), &pages) == [whole])
  }

  @Test("memory of small pages is released at once, and so is what lies between and behind")
  func smallPages() {
    let large = range(Self.page, Self.page)
    var pages = BackingPages(regions: [
      (range(0, Self.page), hostOffset: 0, pageByteCount: 4096),
      (large, hostOffset: 0, pageByteCount: Int(Self.page)),
    ])
    #expect(Self.giveUp(range(0x1000, 0x2000), &pages) == [range(0x1000, 0x2000)])
    #expect(
      Self.giveUp(range(0x1000, 3 * Self.page), &pages)
        == [range(0x1000, Self.page - 0x1000), large, range(2 * Self.page, Self.page + 0x1000)])
  }

  @Test("no range traps, and what is no memory is handed on for discard to refuse")
  func endless() throws {
    let memory = try GuestMemory(byteCount: 4 * Self.page)
    var pages = Self.pages(memory.regions[0].range)
    for range in [range(.max, .max), range(.max - 4095, 4096), range(4096, .max), range(1 << 62, 1 << 63)] {
      let error = failure { () throws(GuestMemoryError) in
        try pages.giveUp(range) { (part) throws(GuestMemoryError) in try memory.discard(part) }
      }
      guard case .outside = error else {
        Issue.record("\(range) was not refused: \(String(describing: error))")
        continue
      }
      pages.takeBack(range)
    }
  }

  @Test("random giving and taking agrees with a set of pieces, and never frees a page in use")
  func oracle() throws {
    var random = SeededGenerator(for: "BackingPagesTests.oracle")
    let page: UInt64 = 8 * 4096
    for lead in [0, 3, 7] as [UInt64] {
      let region = range(0x10000, 50 * 4096)
      var pages = BackingPages(regions: [(region, hostOffset: Int(lead * 4096), pageByteCount: Int(page))])
      var givenUp: Set<UInt64> = []
      for _ in 0..<2000 {
        let first = UInt64.random(in: 0..<50, using: &random)
        let count = UInt64.random(in: 1...min(12, 50 - first), using: &random)
        let part = range(region.start.rawValue + first * 4096, count * 4096)
        if random.once(in: 3) {
          pages.takeBack(part)
          givenUp.subtract(first..<(first + count))
        } else {
          givenUp.formUnion(first..<(first + count))
          let released = Set(Self.giveUp(part, &pages).flatMap { Self.pieces($0, of: region) })
          let whole = Set((first..<(first + count)).flatMap { Self.page(of: $0, lead, givenUp) })
          #expect(released == whole)
        }
        let held = Set(pages.heldBack.flatMap { Self.pieces($0, of: region) })
        #expect(held == givenUp.filter { Self.page(of: $0, lead, givenUp).isEmpty })
      }
    }
  }

  private static func pieces(_ range: GuestRange, of region: GuestRange) -> Range<UInt64> {
    let first = (range.start.rawValue - region.start.rawValue) / 4096
    return first..<(first + range.byteCount / 4096)
  }

  /// The eight pieces of a piece's page if all of them are in the region of 50 and given up; otherwise none.
  private static func page(of piece: UInt64, _ lead: UInt64, _ givenUp: Set<UInt64>) -> [UInt64] {
    let first = Int((piece + lead) / 8 * 8) - Int(lead)
    guard first >= 0 else { return [] }
    let pieces = (UInt64(first)..<UInt64(first + 8)).map { $0 }
    return pieces.allSatisfy { givenUp.contains($0) } ? pieces : []
  }

  @Test("what is released is what discard takes: the host's memory is gone when the last piece is, and only then")
  func discards() throws {
    let memory = try GuestMemory(byteCount: 2 * Self.page)
    var pages = Self.pages(memory.regions[0].range)
    try memory.write(bytes: [UInt8](repeating: 1, count: Int(2 * Self.page)), at: GuestAddress(0))
    for piece in 0..<512 as Range<UInt64> {
      #expect(try memory.residentByteCount() == 2 * Self.page)
      try pages.giveUp(range(piece * 4096, 4096)) { (part) throws(GuestMemoryError) in try memory.discard(part) }
    }
    #expect(try memory.residentRanges() == [range(Self.page, Self.page)])
  }

  @Test("memory of 4 KiB pages takes no room here")
  func noLargePages() throws {
    var pages = BackingPages(of: try GuestMemory.patched())
    #expect(Self.giveUp(range(0x1000, 0x1000), &pages) == [range(0x1000, 0x1000)])
    #expect(pages.heldBack == [])
  }
}
