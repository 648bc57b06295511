import LinuxIO
import Support
import Testing

@testable import GuestRAM

/// The kernel's pool of 2 MiB pages, which an administrator fills: `sysctl -w vm.nr_hugepages=64`.
private enum HugePagePool {
  /// Whether it has as many pages as the tests take, which nobody has and nobody has reserved.
  static var isFilled: Bool { count("free_hugepages") - count("resv_hugepages") >= 12 }

  private static func count(_ name: String) -> Int {
    let path = "/sys/kernel/mm/hugepages/hugepages-2048kB/\(name)"
    guard let text = try? FileDescriptor.open(path).readBytes(upTo: 32) else { return 0 }
    return Int(String(decoding: text, as: UTF8.self).filter(\.isNumber)) ?? 0
  }
}

@Suite(
  "GuestRAM: huge pages", .serialized,
  .enabled(if: HugePagePool.isFilled, "SKIPPED: no huge pages are free; as root: sysctl -w vm.nr_hugepages=64"))
struct HugePagesTests {
  static let page: UInt64 = 2 << 20

  static func memory(pages: UInt64) throws -> GuestMemory {
    try GuestMemory(byteCount: pages * page, hugePages: true)
  }

  @Test("new memory has nothing behind it, and a store puts one huge page there")
  func resident() throws {
    let memory = try Self.memory(pages: 4)
    #expect(memory.regions[0].backingPageByteCount == Int(Self.page))
    #expect(try memory.residentByteCount() == 0)
    #expect(try memory.residentRanges() == [])
    try memory.write(UInt8(1), at: GuestAddress(Self.page + 5))
    #expect(try memory.residentByteCount() == Self.page)
    #expect(try memory.residentRanges() == [range(Self.page, Self.page)])
  }

  @Test("what another process's mapping has touched counts, though nobody can say where it is")
  func touchedByOthers() throws {
    let memory = try Self.memory(pages: 4)
    guard let file = try memory.regions[0].duplicateFile() else {
      Issue.record("there is no file")
      return
    }
    let other = try GuestMemory(regions: [MemoryRegion(file: file, byteCount: 4 * Self.page, start: GuestAddress(0))])
    try other.write(UInt8(1), at: GuestAddress(3 * Self.page))
    #expect(try memory.residentByteCount() == Self.page)
    #expect(try memory.residentRanges() == [range(0, 4 * Self.page)])
    #expect(try memory.read(UInt8.self, at: GuestAddress(3 * Self.page)) == 1)
    #expect(try memory.residentRanges() == [range(3 * Self.page, Self.page)])
  }

  @Test("two regions of one file count its pages once")
  func sharedFile() throws {
    let file = try MemoryFile.create(name: "huge", byteCount: Int(4 * Self.page), hugePages: true)
    let memory = try GuestMemory(regions: [
      MemoryRegion(file: try file.duplicate(), byteCount: 2 * Self.page, start: GuestAddress(0)),
      MemoryRegion(file: file, at: 2 * Self.page, byteCount: 2 * Self.page, start: GuestAddress(1 << 32)),
    ])
    try memory.write(UInt8(1), at: GuestAddress(0))
    try memory.write(UInt8(1), at: GuestAddress(1 << 32))
    #expect(try memory.residentByteCount() == 2 * Self.page)
    let places = try memory.residentRanges()
    #expect(places.contains { $0.overlap(range(0, Self.page)) != nil })
    #expect(places.contains { $0.overlap(range(1 << 32, Self.page)) != nil })
  }

  @Test("a huge page goes back whole, reads as zeros then, and nothing less than one is taken")
  func discard() throws {
    let memory = try Self.memory(pages: 3)
    for page in 0..<3 as Range<UInt64> { try memory.write(UInt64.max, at: GuestAddress(page * Self.page)) }
    for part in [range(0, 4096), range(4096, Self.page), range(Self.page, Self.page + 4096)] {
      guard case .unaligned = failure({ () throws(GuestMemoryError) in try memory.discard(part) }) else {
        Issue.record("\(part) was not refused")
        continue
      }
    }
    #expect(try memory.residentByteCount() == 3 * Self.page)
    try memory.discard(range(Self.page, Self.page))
    #expect(try memory.residentRanges() == [range(0, Self.page), range(2 * Self.page, Self.page)])
    #expect(try memory.residentByteCount() == 2 * Self.page)
    #expect(try memory.read(UInt64.self, at: GuestAddress(0)) == .max)
    #expect(try memory.read(UInt64.self, at: GuestAddress(Self.page)) == 0)
  }

  @Test("cleared bytes read as zeros: whole huge pages go back, parts are overwritten, and a hole gets nothing")
  func clear() throws {
    let memory = try Self.memory(pages: 5)
    for page in [0, 1, 2, 4] as [UInt64] {
      let bytes = [UInt8](repeating: 9, count: Int(Self.page))
      try memory.write(bytes: bytes, at: GuestAddress(page * Self.page))
    }
    try memory.clear(range(Self.page - 5000, Self.page + 10_000))
    try memory.clear(range(3 * Self.page + 4096, 4096))
    try memory.clear(range(4 * Self.page - 4096, 8192))
    try memory.clear(range(4 * Self.page + 12288, 4096))
    #expect(
      try memory.residentRanges() == [
        range(0, Self.page), range(2 * Self.page, Self.page), range(4 * Self.page, Self.page),
      ])
    func isZero(_ start: UInt64, _ count: UInt64) throws -> Bool { try memory.isZero(range(start, count)) }
    #expect(try isZero(Self.page - 5000, 5000) && memory.read(UInt8.self, at: GuestAddress(Self.page - 5001)) == 9)
    #expect(try isZero(2 * Self.page, 5000) && memory.read(UInt8.self, at: GuestAddress(2 * Self.page + 5000)) == 9)
    #expect(try isZero(4 * Self.page, 4096) && isZero(4 * Self.page + 12288, 4096))
    #expect(try memory.readBytes(8192, at: GuestAddress(4 * Self.page + 4096)).allSatisfy { $0 == 9 })
  }

  @Test("5.5.6: pieces given up one by one free their huge page with the last of them")
  func pieces() throws {
    let memory = try Self.memory(pages: 2)
    try memory.write(UInt8(1), at: GuestAddress(0))
    try memory.write(UInt8(1), at: GuestAddress(Self.page))
    var pages = BackingPages(of: memory)
    for piece in 0..<512 as Range<UInt64> {
      #expect(try memory.residentByteCount() == 2 * Self.page)
      try pages.giveUp(range(piece * 4096, 4096)) { (part) throws(GuestMemoryError) in try memory.discard(part) }
    }
    #expect(try memory.residentByteCount() == Self.page)
    #expect(try memory.read(UInt8.self, at: GuestAddress(Self.page)) == 1)
  }

  @Test("a region that begins within a huge page keeps that page")
  func regionWithinPages() throws {
    let file = try MemoryFile.create(name: "huge", byteCount: Int(3 * Self.page), hugePages: true)
    let start: UInt64 = 1 << 32
    let memory = try GuestMemory(regions: [
      MemoryRegion(file: file, at: 0xC0000, byteCount: 2 * Self.page, start: GuestAddress(start))
    ])
    for offset in [0, Self.page, 2 * Self.page - 1] { try memory.write(UInt8(1), at: GuestAddress(start + offset)) }
    var pages = BackingPages(of: memory)
    try pages.giveUp(range(start, 2 * Self.page)) { (part) throws(GuestMemoryError) in try memory.discard(part) }
    #expect(try memory.read(UInt8.self, at: GuestAddress(start)) == 1)
    #expect(try memory.read(UInt8.self, at: GuestAddress(start + 2 * Self.page - 1)) == 1)
    #expect(try memory.read(UInt8.self, at: GuestAddress(start + Self.page)) == 0)
  }

  @Test("memory is put there ahead of its use, and more than the pool has is an error and not a signal")
  func populate() throws {
    let memory = try Self.memory(pages: 2)
    guard try memory.populate(range(0, Self.page)) else { return }
    #expect(try memory.residentByteCount() == Self.page)
    let tooMuch = try Self.memory(pages: 1 << 20)
    #expect(throws: GuestMemoryError.self) { try tooMuch.populate(tooMuch.regions[0].range) }
  }

  @Test(
    "a write to a huge page is found, all of the page, and so is a page given back", arguments: WriteTracker.available)
  func track(_ method: WriteTracker.Method) throws {
    let memory = try Self.memory(pages: 4)
    try memory.write(UInt8(1), at: GuestAddress(0))
    try memory.write(UInt8(1), at: GuestAddress(Self.page))
    let tracker = try WriteTracker(memory, method: method)
    #expect(try memory.residentByteCount() == 2 * Self.page)
    try memory.write(UInt8(2), at: GuestAddress(5))
    try memory.write(UInt8(2), at: GuestAddress(3 * Self.page + 7))
    #expect(try tracker.takeRanges() == [range(0, Self.page), range(3 * Self.page, Self.page)])
    try memory.write(UInt8(3), at: GuestAddress(0))
    try memory.discard(range(0, 2 * Self.page))
    #expect(try tracker.takeRanges() == [range(0, 2 * Self.page)])
    #expect(try tracker.takeRanges() == [])
    try memory.write(UInt8(4), at: GuestAddress(Self.page))
    #expect(try tracker.takeRanges() == [range(Self.page, Self.page)])
    tracker.stop()
    #expect(try memory.residentByteCount() == 2 * Self.page)
  }

  @Test("a region that begins within a huge page is told of its own part", arguments: WriteTracker.available)
  func trackWithinPages(_ method: WriteTracker.Method) throws {
    let file = try MemoryFile.create(name: "huge", byteCount: Int(3 * Self.page), hugePages: true)
    let memory = try GuestMemory(regions: [
      MemoryRegion(file: file, at: 0xC0000, byteCount: 2 * Self.page, start: GuestAddress(1 << 32))
    ])
    let tracker = try WriteTracker(memory, method: method)
    try memory.write(UInt8(1), at: GuestAddress(1 << 32))
    try memory.write(UInt8(1), at: GuestAddress((1 << 32) + 2 * Self.page - 1))
    let first = Self.page - 0xC0000
    #expect(try tracker.takeRanges() == [range(1 << 32, first), range((1 << 32) + first + Self.page, 0xC0000)])
  }

  @Test(
    "huge pages that are missing are waited for and provided whole",
    .enabled(if: MissingPages.isAvailable, "SKIPPED: this process may not have a userfaultfd"))
  func missing() throws {
    let memory = try Self.memory(pages: 3)
    try memory.write(UInt8(9), at: GuestAddress(Self.page))
    let missing = try MissingPages(of: memory)
    let reader = try ThreadGroup(1) { (_) in _ = try? memory.read(UInt8.self, at: GuestAddress(2 * Self.page + 0x5000))
    }
    var faults: [GuestRange] = []
    while faults.isEmpty { try missing.takeFaults { faults.append($0) } }
    #expect(faults == [range(2 * Self.page, Self.page)])
    let bytes = [UInt8](repeating: 7, count: Int(2 * Self.page))
    #expect(try missing.provide(bytes.span, at: GuestAddress(0)) == Int(Self.page))
    #expect(try missing.provideZeros(range(Self.page, 2 * Self.page)) == Int(Self.page))
    reader.join()
    let firsts = try (0..<3 as Range<UInt64>).map { try memory.read(UInt8.self, at: GuestAddress($0 * Self.page)) }
    #expect(firsts == [7, 9, 0])
  }
}
