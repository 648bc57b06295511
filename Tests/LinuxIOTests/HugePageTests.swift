import LinuxIO
import Support
import Testing

@Suite("Mapping: huge pages and what is in memory")
struct HugePageTests {
  private static let huge = Mapping.hugePageByteCount

  @Test(
    "a memory file is mapped where huge pages can be, wherever in the file it starts", arguments: [0, 4096, 3 << 20])
  func place(offset: Int) throws {
    let file = try MemoryFile.create(name: "test", byteCount: 8 * Self.huge)
    let mapping = try Mapping(of: file, at: offset, byteCount: 2 * Self.huge)
    #expect(mapping.isPlacedForHugePages)
    unsafe mapping.base.storeBytes(of: 7, as: UInt8.self)
    #expect(try file.readBytes(upTo: 1, at: offset) == [7])
  }

  @Test(
    "a huge page holds what was there, and of the file only its own bytes have memory",
    .enabled(if: HugePages.canBeHad, Comment(rawValue: HugePages.whySkipped)))
  func make() throws {
    let file = try MemoryFile.create(name: "test", byteCount: 4 * Self.huge)
    let mapping = try Mapping(of: file, byteCount: 4 * Self.huge)
    unsafe (mapping.base + Self.huge + 5000).storeBytes(of: 9, as: UInt8.self)
    let isHuge = mapping.makeHugePageAtLast(at: Self.huge, of: file)
    #expect(isHuge)
    #expect(try file.status.allocatedByteCount == Self.huge)
    #expect(try file.nextData(from: 0) == Self.huge)
    #expect(try file.readBytes(upTo: 2, at: Self.huge + 5000) == [9, 0])
    #expect(try mapping.hugeByteCount == Self.huge)
    // A hole in it takes memory from nobody else.
    try mapping.discard(at: Self.huge + 4096, byteCount: 8192)
    #expect(try file.status.allocatedByteCount == Self.huge - 8192)
    #expect(try file.readBytes(upTo: 1, at: Self.huge + 5000) == [0])
  }

  @Test("where none can be nobody's bytes are lost", arguments: [4096, huge])
  func misplaced(fileOffset: Int) throws {
    let file = try MemoryFile.create(name: "test", byteCount: 4 * Self.huge)
    let mapping = try Mapping(of: file, at: fileOffset, byteCount: 2 * Self.huge)
    try file.writeAll([5], at: fileOffset + 4096 + 17)
    let isHuge = mapping.makeHugePage(at: 4096, of: file)
    #expect(!isHuge)
    #expect(try file.readBytes(upTo: 2, at: fileOffset + 4096 + 17) == [5, 0])
    #expect(try file.status.allocatedByteCount == 4096)
  }

  @Test(
    "as long as somebody uses a page its stretch does not become huge, and keeps what it holds",
    .enabled(if: HugePages.canBeHad, Comment(rawValue: HugePages.whySkipped)))
  func inUse() throws {
    let file = try MemoryFile.create(name: "test", byteCount: Self.huge)
    let mapping = try Mapping(of: file, byteCount: Self.huge)
    unsafe (mapping.base + 3 * 4096).storeBytes(of: 6, as: UInt8.self)
    let pipe = try mapping.pageInPipe(at: 3 * 4096)
    var isHuge = mapping.makeHugePage(at: 0, of: file)
    #expect(!isHuge)
    #expect(try file.readBytes(upTo: 2, at: 3 * 4096) == [6, 0])
    #expect(try file.status.allocatedByteCount == 2 * 4096)
    #expect(try pipe.reading.readBytes(upTo: 4096).first == 6)
    isHuge = mapping.makeHugePageAtLast(at: 0, of: file)
    #expect(isHuge)
    #expect(try file.readBytes(upTo: 2, at: 3 * 4096) == [6, 0])
  }

  @Test("all of a stretch is in memory once each of its pages has been touched, by whomever")
  func inMemory() throws {
    let file = try MemoryFile.create(name: "test", byteCount: 16 * 4096)
    let mapping = try Mapping(of: file, byteCount: 16 * 4096)
    #expect(try file.status.tellsPages)
    #expect(try !mapping.isInMemory(0..<4096))
    try file.writeAll([UInt8](repeating: 1, count: 4 * 4096), at: 4096)
    #expect(try mapping.isInMemory(4096..<5 * 4096))
    #expect(try mapping.isInMemory(4097..<5 * 4096 - 1))
    #expect(try !mapping.isInMemory(4095..<5 * 4096))
    #expect(try !mapping.isInMemory(4096..<5 * 4096 + 1))
    #expect(try mapping.isInMemory(0..<0))
  }
}
