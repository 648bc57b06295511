import LinuxIO
import Support
import Testing

@testable import GuestRAM

@Suite(
  "GuestRAM: write tracker where a file has nothing", .serialized,
  .enabled(if: !WriteTracker.available.isEmpty, "SKIPPED: the kernel (before Linux 6.4) or the rights of this process"))
struct EmptyStretchTests {
  private static let page: UInt64 = 4096

  /// 16 MiB, of which one page is there.
  private static func memory(_ region: MemoryRegion) throws -> GuestMemory {
    let memory = try GuestMemory(regions: [region])
    try memory.write(UInt8(1), at: GuestAddress(9 << 20))
    return memory
  }

  private static func file() throws -> MemoryRegion {
    try MemoryRegion(memoryFile: 16 << 20, start: GuestAddress(0))
  }

  @Test("only what a page table maps of which the file has something is protected, and all of other memory")
  func parts() throws {
    let memory = try Self.memory(Self.file())
    let tracked = try TrackedRegion(memory.regions[0])
    #expect(tracked.nextPart(of: tracked.bytes) == (0..<16 << 20, false))
    try tracked.findEmpty()
    #expect(tracked.nextPart(of: tracked.bytes) == (0..<8 << 20, true))
    #expect(tracked.nextPart(of: 4096..<12288) == (4096..<12288, true))
    #expect(tracked.nextPart(of: 9 << 20..<16 << 20) == (9 << 20..<10 << 20, false))
    #expect(tracked.nextPart(of: 11 << 20..<16 << 20) == (11 << 20..<16 << 20, true))
    let anonymous = try TrackedRegion(
      Self.memory(MemoryRegion(anonymous: 16 << 20, start: GuestAddress(0))).regions[0])
    try anonymous.findEmpty()
    #expect(anonymous.nextPart(of: anonymous.bytes) == (0..<16 << 20, false))
  }

  @Test(
    "the pages written are found and no others, the first of a stretch and all later ones",
    arguments: WriteTracker.available)
  func found(_ method: WriteTracker.Method) throws {
    let memory = try Self.memory(Self.file())
    let tracker = try WriteTracker(memory, method: method)
    #expect(try tracker.writtenByteCount() == 0)
    #expect(try tracker.takeRanges() == [])
    for addresses in [[1 << 20, 9 << 20 + 4096, (16 << 20) - 4096], [(1 << 20) + 0x4000], [3 << 20]] as [[UInt64]] {
      for address in addresses { try memory.write(UInt8(2), at: GuestAddress(address)) }
      #expect(try tracker.writtenByteCount() == UInt64(addresses.count) * Self.page)
      #expect(try tracker.takeRanges() == addresses.map { GuestRange(start: GuestAddress($0), byteCount: Self.page) })
      #expect(try tracker.takeRanges() == [])
    }
    #expect(try memory.residentByteCount() == 6 * Self.page)
  }

  @Test("a page that is given back is found, in a stretch that has nothing too", arguments: WriteTracker.available)
  func discards(_ method: WriteTracker.Method) throws {
    let memory = try Self.memory(Self.file())
    let tracker = try WriteTracker(memory, method: method)
    for address in [9 << 20, 2 << 20] as [UInt64] {
      let given = GuestRange(start: GuestAddress(address), byteCount: Self.page)
      try memory.discard(given)
      #expect(try tracker.takeRanges() == [given])
      for address in [address, address + 0x8000] { try memory.write(UInt8(3), at: GuestAddress(address)) }
      let found = Set(
        try tracker.takeRanges().flatMap {
          stride(from: $0.start.rawValue, to: $0.start.rawValue + $0.byteCount, by: 4096)
        })
      #expect(found.isSuperset(of: [address, address + 0x8000]))
      #expect(try tracker.takeRanges() == [])
    }
  }

  @Test(
    "a stretch used for the first time around a page that is given back is found, and no write after that is lost",
    arguments: WriteTracker.available)
  func aroundDiscard(_ method: WriteTracker.Method) throws {
    let memory = try Self.memory(Self.file())
    let tracker = try WriteTracker(memory, method: method)
    let pages = [0, 0x10, 0x20].map { GuestRange(start: GuestAddress(2 << 20 + $0 * Self.page), byteCount: Self.page) }
    try memory.discard(pages[1])
    for page in [pages[0], pages[2]] { try memory.write(UInt8(3), at: page.start) }
    #expect(try tracker.takeRanges() == pages)
    for page in pages { try memory.write(UInt8(4), at: page.start) }
    #expect(try tracker.takeRanges() == pages)
    #expect(try tracker.takeRanges() == [])
    for page in pages { try memory.write(UInt8(5), at: page.start) }
    #expect(try tracker.takeRanges() == pages)
  }

  @Test("the runs of a stretch end where it does, however much of the file follows")
  func runs() throws {
    let memory = try Self.memory(Self.file())
    let tracked = try TrackedRegion(memory.regions[0])
    let written: [Range<UInt64>] = [0..<1, 3..<6, 500..<1024]
    for run in written {
      for page in run { try memory.write(UInt8(1), at: GuestAddress(page * Self.page)) }
    }
    var found: [Range<Int>] = []
    try tracked.forEachRunInUse(of: 0..<2 << 20) { found.append($0) }
    #expect(found == [0..<0x1000, 0x3000..<0x6000, 0x1F4000..<0x200000])
    #expect(tracked.isWholeStretch(0..<2 << 20) && !tracked.isWholeStretch(0x1000..<2 << 20))
  }

  @Test("no write is lost where memory is used for the first time, nor a discard", arguments: WriteTracker.available)
  func stress(_ method: WriteTracker.Method) throws {
    let random = SeededGenerator(for: "EmptyStretchTests.stress(\(method))")
    let file = try MemoryFile.create(name: "tracked", byteCount: 16 << 20)
    let memory = try GuestMemory(regions: [
      Self.file(), MemoryRegion(file: file, at: 5 * Self.page, byteCount: 12 << 20, start: GuestAddress(1 << 32)),
    ])
    let ranges = memory.regions.map(\.range)
    var copy = Dictionary(uniqueKeysWithValues: ranges.map { ($0, [UInt8](repeating: 0, count: Int($0.byteCount))) })
    let tracker = try WriteTracker(memory, method: method)
    let writers = try (0..<3).map { try Writer(memory, seed: random.seed &+ UInt64($0)) }
    let workers = try ThreadGroup(writers.count) { (index) in writers[index].run() }
    for _ in 0..<40 { try tracker.collect { copy.update($0, from: memory) } }
    workers.join()
    try tracker.collect { copy.update($0, from: memory) }
    for range in ranges { #expect(copy[range] == (try memory.content(of: range))) }
    #expect(writers.allSatisfy { $0.failureCount == 0 })
  }
}
