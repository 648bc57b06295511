import Testing

@testable import GuestRAM

/// What a ring is read and written through when its bounds are checked once.
@Suite("GuestRAM: tables and rings")
struct RingEntriesTests {
  static func window(
    _ memory: GuestMemory, _ address: UInt64, _ byteCount: Int, alignment: Int = 1
  ) throws -> MemoryWindow {
    try MemoryWindow(of: memory, at: GuestAddress(address), byteCount: byteCount, alignment: alignment)
  }

  static func fill(_ memory: GuestMemory, _ address: UInt64, rows: Int) throws {
    for word in 0..<2 * rows { try memory.write(UInt64(100 + word), at: GuestAddress(address + UInt64(8 * word))) }
  }

  static func row(of table: borrowing PairTable) -> [UInt64] {
    let (first, second) = table.load()
    return [first, second]
  }

  static func row(_ index: UInt16, of table: inout PairTable) -> [UInt64]? {
    table.go(to: index) ? row(of: table) : nil
  }

  static func share(_ table: borrowing PairTable, at index: UInt16) -> [UInt64]? {
    guard let shared = table.share(at: index) else { return nil }
    return row(of: shared)
  }

  @Test(
    "a table reads the row that it was sent to, wherever its rows lie", arguments: [0x100, 0x104, 0x101] as [UInt64])
  func rows(address: UInt64) throws {
    let memory = try GuestMemory(byteCount: 0x1000)
    try Self.fill(memory, address, rows: 3)
    var table = PairTable(try Self.window(memory, address, 48))
    let (count, byteCount) = (table.count, table.byteCount)
    #expect(count == 3 && byteCount == 48)
    #expect(Self.row(of: table) == [100, 101])
    #expect(Self.row(2, of: &table) == [104, 105])
    #expect(Self.share(table, at: 1) == [102, 103])
    #expect(Self.row(of: table) == [104, 105])
  }

  @Test("no row behind a table's end can be gone to", arguments: [3, 4, 4096, 65535] as [UInt16])
  func rowOutside(row: UInt16) throws {
    let memory = try GuestMemory(byteCount: 0x1000)
    try Self.fill(memory, 0, rows: 8)
    var table = PairTable(try Self.window(memory, 0, 48))
    #expect(Self.row(1, of: &table) == [102, 103])
    #expect(Self.row(row, of: &table) == nil)
    #expect(Self.row(of: table) == [102, 103])
    #expect(Self.share(table, at: row) == nil)
  }

  @Test("a table that moves stands on the first row there, and has that table's rows only")
  func moved() throws {
    let memory = try GuestMemory(byteCount: 0x1000)
    try Self.fill(memory, 0x200, rows: 4)
    var table = PairTable(try Self.window(memory, 0, 48))
    #expect(Self.row(2, of: &table) != nil)
    try table.move(to: GuestAddress(0x200), byteCount: 32)
    #expect(Self.row(of: table) == [100, 101])
    #expect(Self.row(2, of: &table) == nil)
    let address = GuestAddress(0x1000 - 16)
    var failure: GuestMemoryError?
    do throws(GuestMemoryError) { try table.move(to: address, byteCount: 32) } catch { failure = error }
    #expect(failure == .outside(GuestRange(start: address, byteCount: 32)))
    #expect(Self.row(of: table) == [100, 101])
  }

  @Test("2.7.6: a ring that is read takes every index modulo its size", arguments: [1, 4, 32768] as [UInt16])
  func numbers(count: UInt16) throws {
    let memory = try GuestMemory(byteCount: 0x20000)
    for entry in 0..<UInt64(count) { try memory.write(UInt16(entry), at: GuestAddress(0x104 + 2 * entry)) }
    try memory.write(UInt16.max, at: GuestAddress(0x104 + 2 * UInt64(count)))
    let ring = NumberRing(try Self.window(memory, 0x100, 4 + 2 * Int(count)), at: 4, count: count)
    for index in [0, 1, count - 1, count, .max] as [UInt16] {
      let entry = ring[index]
      #expect(entry == index % count)
    }
  }

  @Test("2.7.8: a ring that is written takes every index modulo its size, and marks where it wrote")
  func pairs() throws {
    let log = try DirtyLog(coveringUpTo: GuestAddress(0x10000))
    let memory = try GuestMemory(byteCount: 0x10000).with(dirtyLog: log)
    let ring = PairRing(try Self.window(memory, 0xFFC, 4 + 8 * 1024), at: 4, count: 1024)
    ring.store(7, 8, at: 1023)
    ring.store(5, 6, at: 65535 &+ 513)
    #expect(try memory.read(UInt64.self, at: GuestAddress(0x1000 + 8 * 1023)) == 8 << 32 | 7)
    #expect(try memory.read(UInt64.self, at: GuestAddress(0x1000 + 8 * 512)) == 6 << 32 | 5)
    var pages: [UInt64] = []
    log.collect { pages.append($0) }
    #expect(pages == [2])
    ring.store(1, 1, at: 1024)
    log.collect { pages.append($0) }
    #expect(pages == [2, 1])
  }
}
