import LinuxIO
import Support
import Testing

@testable import GuestRAM

@Suite("Stores into memory that nobody has touched")
struct FreshPagesTests {
  private static let page: UInt64 = 4096

  private static func pages(_ first: UInt64, _ count: UInt64) -> GuestRange {
    GuestRange(start: GuestAddress(first * page), byteCount: count * page)
  }

  private static func regions() -> [[MemoryRegion]] {
    let start = GuestAddress(16 * page)
    return [
      try? [MemoryRegion(memoryFile: 64 * page, start: start)], try? [MemoryRegion(anonymous: 64 * page, start: start)],
    ].compactMap(\.self)
  }

  /// Memory whose pages hold their number.
  private static func numbered(_ count: UInt64) throws -> GuestMemory {
    let memory = try GuestMemory(byteCount: count * page)
    for number in 0..<count { try memory.write(number + 1, at: GuestAddress(number * page)) }
    return memory
  }

  @Test("pages come whole, over what is there and where nothing is, and no other page gets memory", arguments: 0..<2)
  func store(_ kind: Int) throws {
    let memory = try GuestMemory(regions: Self.regions()[kind])
    guard let fresh = FreshPages(of: memory) else { return }
    let source = try Self.numbered(8)
    try memory.write(UInt64(77), at: GuestAddress(22 * Self.page + 8))
    try memory.write(UInt64(78), at: GuestAddress(25 * Self.page))
    try fresh.store(Self.pages(0, 8), of: source, at: GuestAddress(20 * Self.page))
    #expect(try memory.residentRanges().reduce(0) { $0 + $1.byteCount } == 8 * Self.page)
    for number in 0..<UInt64(8) {
      let start = GuestAddress((20 + UInt64(number)) * Self.page)
      #expect(
        try memory.digest(GuestRange(start: start, byteCount: Self.page))
          == source.digest(Self.pages(UInt64(number), 1)))
    }
  }

  @Test("whoever touches the memory meanwhile is not kept waiting, and after the end stores go on")
  func others() throws {
    let memory = try GuestMemory(regions: Self.regions()[0])
    guard let fresh = FreshPages(of: memory) else { return }
    #expect(try memory.read(UInt64.self, at: GuestAddress(40 * Self.page)) == 0)
    try memory.write(UInt64(5), at: GuestAddress(41 * Self.page))
    try memory.discard(Self.pages(41, 1))
    let source = try Self.numbered(2)
    try fresh.store(Self.pages(0, 2), of: source, at: GuestAddress(40 * Self.page))
    fresh.stop()
    try fresh.store(Self.pages(0, 2), of: source, at: GuestAddress(41 * Self.page))
    #expect(try (40..<43).map { try memory.read(UInt64.self, at: GuestAddress($0 * Self.page)) } == [1, 1, 2])
    // What has ended is nobody's any more.
    #expect(FreshPages(of: memory) != nil)
  }

  @Test("what is not whole pages of one region is refused")
  func misplaced() throws {
    let memory = try GuestMemory(regions: Self.regions()[0])
    guard let fresh = FreshPages(of: memory) else { return }
    let source = try Self.numbered(4)
    for (range, start) in [
      (Self.pages(0, 1), 79 * Self.page + 8), (Self.pages(0, 2), 79 * Self.page), (Self.pages(0, 1), 15 * Self.page),
      (GuestRange(start: GuestAddress(0), byteCount: 100), 16 * Self.page), (Self.pages(3, 2), 16 * Self.page),
    ] {
      #expect(throws: GuestMemoryError.self) { try fresh.store(range, of: source, at: GuestAddress(start)) }
    }
    #expect(try memory.residentRanges().isEmpty)
  }

  @Test("memory in huge pages gains nothing")
  func hugePages() throws {
    let memory = try GuestMemory(regions: [
      MemoryRegion(anonymous: 4 << 20, start: GuestAddress(0), hugePages: true)
    ])
    #expect(FreshPages(of: memory) == nil)
  }

  @Test("stores are marked in the dirty log")
  func dirtyLog() throws {
    let log = try DirtyLog(coveringUpTo: GuestAddress(80 * Self.page))
    let memory = try GuestMemory(regions: Self.regions()[0], dirtyLog: log)
    guard let fresh = FreshPages(of: memory) else { return }
    try fresh.store(Self.pages(0, 1), of: Self.numbered(1), at: GuestAddress(30 * Self.page))
    #expect(log.isMarked(page: 30))
  }
}
