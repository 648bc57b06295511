import LinuxIO
import Support
import Testing

@testable import GuestRAM

@Suite("GuestRAM: huge pages for what is about to be stored")
struct HugeStretchesTests {
  private static let huge = HugeStretches.byteCount
  private static let page: UInt64 = 4096

  // MARK: - Which

  private static func wanted(_ ranges: [GuestRange]) -> [UInt64] {
    var stretches = HugeStretches()
    stretches.want(ranges) { _ in true }
    return stride(from: 0, to: 8 * huge, by: Int(huge)).filter { stretches.claim($0) == .wanted }
  }

  @Test("a stretch is wanted if all of it is about to be stored, in however many ranges")
  func want() {
    let (huge, page) = (Self.huge, Self.page)
    #expect(Self.wanted([range(0, huge)]) == [0])
    #expect(Self.wanted([range(0, huge - page)]) == [])
    #expect(Self.wanted([range(page, 2 * huge)]) == [huge])
    #expect(Self.wanted([range(0, huge / 2), range(huge / 2, huge / 2)]) == [0])
    #expect(Self.wanted([range(0, huge / 2), range(huge / 2 + page, 2 * huge)]) == [huge])
    #expect(Self.wanted([range(page, huge), range(huge + page, 2 * huge)]) == [huge, 2 * huge])
    #expect(Self.wanted([]) == [])
    #expect(Self.wanted([range(.max - huge - page + 1, huge), range(.max - page + 1, page)]) == [])
  }

  @Test("only one gets to make a stretch, and what could not be had is small")
  func claim() {
    var stretches = HugeStretches()
    stretches.want([range(0, 8 * Self.huge)]) { $0.start.rawValue != 0 }
    #expect(stretches.claim(0) == .small)
    #expect(stretches.claim(Self.huge) == .wanted)
    #expect(stretches.claim(Self.huge) == nil)
    stretches.decide(Self.huge, isHuge: true, after: 0)
    #expect(stretches.claim(Self.huge) == .huge)
    for number in 2...5 {
      #expect(stretches.claim(UInt64(number) * Self.huge) == .wanted)
      stretches.decide(UInt64(number) * Self.huge, isHuge: false, after: 0)
      #expect(stretches.claim(UInt64(number) * Self.huge) == .small)
    }
    // The kernel is not asked for ever.
    #expect(stretches.claim(6 * Self.huge) == .small)
    stretches.want([range(0, 8 * Self.huge)]) { _ in true }
    #expect(stretches.claim(6 * Self.huge) == .small)
    #expect(stretches.claim(Self.huge) == .huge)
  }

  @Test("who would wait for a stretch makes the next one meanwhile, if it is wanted and nobody has it")
  func next() {
    let huge = Self.huge
    var stretches = HugeStretches()
    stretches.want([range(huge, 2 * huge)]) { _ in true }
    #expect(stretches.claimNext(after: huge) == nil)
    #expect(stretches.claim(huge) == .wanted)
    #expect(stretches.claimNext(after: huge) == 2 * huge)
    #expect(stretches.claim(2 * huge) == nil)
    #expect(stretches.claimNext(after: huge) == nil)
    #expect(stretches.claimNext(after: 2 * huge) == nil)
    stretches.decide(huge, isHuge: true, after: 0)
    stretches.decide(2 * huge, isHuge: false, after: 0)
    #expect(stretches.claim(huge) == .huge && stretches.claim(2 * huge) == .small)
    #expect(stretches.claimNext(after: .max - huge + 1) == nil)
  }

  @Test("huge pages may lose a second in all against small ones; what one gains makes up for what another has lost")
  func slow() {
    var stretches = HugeStretches()
    stretches.want([range(0, 64 * Self.huge)]) { _ in true }
    // Worth 10 ms each: 900 ms are lost, 200 made up for, 300 lost.
    let times: [UInt64] = [910] + [UInt64](repeating: 5, count: 40) + [UInt64](repeating: 110, count: 3)
    for (number, time) in times.map({ $0 * 1_000_000 }).enumerated() {
      #expect(stretches.wantsAny)
      let start = UInt64(number) * Self.huge
      #expect(stretches.claim(start) == .wanted)
      stretches.decide(start, isHuge: true, after: time)
      #expect(stretches.claim(start) == .huge)
    }
    #expect(!stretches.wantsAny)
    #expect(stretches.claim(60 * Self.huge) == .small)
    var other = HugeStretches()
    other.decide(0, isHuge: true, after: .max)
    #expect(!other.wantsAny)
  }

  @Test("a range lies in all stretches that it touches")
  func all() {
    func starts(_ range: GuestRange) -> [UInt64] {
      var starts: [UInt64] = []
      _ = HugeStretches.all(range) { starts.append($0) != () || true }
      return starts
    }
    #expect(starts(range(Self.page, Self.page)) == [0])
    #expect(starts(range(Self.huge - Self.page, 2 * Self.page)) == [0, Self.huge])
    #expect(starts(range(Self.huge, Self.huge)) == [Self.huge])
  }

  // MARK: - Stores

  /// Memory whose pages hold their number, counted from 1.
  private static func numbered(_ count: UInt64) throws -> GuestMemory {
    let memory = try GuestMemory(byteCount: count * page)
    for number in 0..<count { try memory.write(number + 1, at: GuestAddress(number * page)) }
    return memory
  }

  @Test("pages come whole to huge pages and small ones, from several threads, and no other page gets memory")
  func store() throws {
    let memory = try GuestMemory(regions: [MemoryRegion(memoryFile: 8 * Self.huge, start: GuestAddress(0))])
    guard let fresh = FreshPages(of: memory) else { return }
    let (first, count) = (UInt64(300), UInt64(3000))
    let source = try Self.numbered(count)
    fresh.expect([range(first * Self.page, count * Self.page)])
    // What is there already stays, but for what is stored.
    try memory.write(UInt64(77), at: GuestAddress(600 * Self.page + 8))
    let threads = try ThreadGroup(4) { thread in
      for part in stride(from: UInt64(thread) * 50, to: count, by: 200) {
        try? fresh.store(
          range(part * Self.page, 50 * Self.page), of: source, at: GuestAddress((first + part) * Self.page))
      }
    }
    threads.join()
    #expect(try memory.residentRanges() == [range(first * Self.page, count * Self.page)])
    for number in 0..<count {
      #expect(try memory.read(UInt64.self, at: GuestAddress((first + number) * Self.page)) == number + 1)
    }
    // As many as the kernel gives: it may be busy.
    #expect(try memory.regions[0].mapping.hugeByteCount > 0 || !HugePages.canBeHad)
    #expect(!fresh.takeHugePages(for: range(0, Self.page)))
    #expect(!fresh.takeHugePages(for: range(2 * Self.huge, 5 * Self.huge)))
    fresh.stop()
    try fresh.store(range(0, Self.page), of: source, at: GuestAddress(3 * Self.huge))
    #expect(try memory.read(UInt64.self, at: GuestAddress(3 * Self.huge)) == 1)
  }

  @Test(
    "a stretch with a page in use gets small pages, which are stored as ever",
    .enabled(if: HugePages.canBeHad, Comment(rawValue: HugePages.whySkipped)))
  func refused() throws {
    let region = try MemoryRegion(memoryFile: 4 * Self.huge, start: GuestAddress(0))
    let memory = try GuestMemory(regions: [region])
    let fresh = try #require(FreshPages(of: memory))
    try memory.write(UInt64(5), at: GuestAddress(7 * Self.page))
    let pipe = try region.mapping.pageInPipe(at: 7 * Int(Self.page))
    fresh.expect([region.range])
    let source = try Self.numbered(2048)
    try fresh.store(range(0, 4 * Self.huge), of: source, at: GuestAddress(0))
    let isHuge = (0..<4).map { fresh.takeHugePages(for: range($0 * Self.huge, Self.page)) }
    // Of the others as many as the kernel gives.
    #expect(!isHuge[0] && isHuge.contains(true))
    for number in 0..<2048 as Range<UInt64> {
      #expect(try memory.read(UInt64.self, at: GuestAddress(number * Self.page)) == number + 1)
    }
    // What has been stored is the file's, and what the pipe has lent is that too.
    #expect(try pipe.reading.readBytes(upTo: 8) == [8, 0, 0, 0, 0, 0, 0, 0])
  }

  @Test("what has not been stored by the end of what was expected gets small pages")
  func noMore() throws {
    let memory = try GuestMemory(regions: [MemoryRegion(memoryFile: 2 * Self.huge, start: GuestAddress(0))])
    guard let fresh = FreshPages(of: memory) else { return }
    fresh.expect([range(0, 2 * Self.huge)])
    fresh.expectNoMore()
    try fresh.store(range(0, Self.page), of: Self.numbered(1), at: GuestAddress(0))
    #expect(try memory.residentByteCount() == Self.page)
  }

  @Test("memory that is no file's, or not placed for it, gets small pages")
  func unsuitable() throws {
    for region in [
      try MemoryRegion(anonymous: 4 * Self.huge, start: GuestAddress(0)),
      try MemoryRegion(memoryFile: 4 * Self.huge, start: GuestAddress(Self.page)),
    ] {
      guard let fresh = FreshPages(of: try GuestMemory(regions: [region])) else { return }
      fresh.expect([region.range])
      #expect(!fresh.takeHugePages(for: range(2 * Self.huge, Self.page)))
      try fresh.store(range(0, Self.page), of: Self.numbered(1), at: GuestAddress(2 * Self.huge))
      #expect(try GuestMemory(regions: [region]).residentByteCount() == Self.page)
    }
  }
}
