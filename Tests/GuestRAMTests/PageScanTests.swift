import GuestRAM
import Support
import Testing

@Suite("GuestRAM: what pages hold")
struct PageScanTests {
  @Test("a range is zero if every byte of it is, whatever lies beside it")
  func zero() throws {
    let memory = try GuestMemory(byteCount: 0x4000)
    let ranges = [range(0x1000, 4096), range(0x1001, 4096), range(0x1000, 1), range(0x1007, 263), range(0x1000, 256)]
    for part in ranges {
      let (start, end) = (part.start.rawValue, part.start.rawValue + part.byteCount)
      #expect(try memory.isZero(part))
      for beside in [start - 1, end] { try memory.write(UInt8(1), at: GuestAddress(beside)) }
      #expect(try memory.isZero(part))
      for beside in [start - 1, end] { try memory.write(UInt8(0), at: GuestAddress(beside)) }
      for offset in stride(from: start, to: end, by: part.byteCount > 300 ? 37 : 1) {
        try memory.write(UInt8(0x80), at: GuestAddress(offset))
        #expect(try memory.isZero(part) == false)
        try memory.write(UInt8(0), at: GuestAddress(offset))
      }
      try memory.write(UInt8(1), at: GuestAddress(end - 1))
      #expect(try memory.isZero(part) == false)
      try memory.write(UInt8(0), at: GuestAddress(end - 1))
    }
  }

  @Test("pages at the start of a range are alike as long as all are zero or none is")
  func leading() throws {
    let memory = try GuestMemory(byteCount: 0x8000)
    for page in [2, 3, 5] as [UInt64] { try memory.write(UInt8(1), at: GuestAddress(page << 12 | 0xFFF)) }
    for (first, count, isZero) in [(0, 2, true), (1, 1, true), (2, 2, false), (3, 1, false), (6, 2, true)] {
      let found = try memory.leadingPages(of: range(UInt64(first) << 12, UInt64(8 - first) << 12))
      #expect(found == (count, isZero))
    }
    #expect(try memory.leadingPages(of: range(0x2000, 0x1000)) == (1, false))
    for bad in [range(0, 0), range(0, 4095), range(0x8000, 0x1000)] {
      #expect(throws: GuestMemoryError.self) { try memory.leadingPages(of: bad) }
    }
  }

  @Test("a digest changes with every bit of a page, with its length, and with the order of its words")
  func digestBits() throws {
    var random = SeededGenerator(for: "PageScanTests.digestBits")
    let memory = try GuestMemory(byteCount: 0x4000)
    let bytes = (0..<4096).map { _ in UInt8.random(in: 0...255, using: &random) }
    try memory.write(bytes: bytes, at: GuestAddress(0x1000))
    let page = range(0x1000, 4096)
    var digests: Set = [try memory.digest(page)]
    for byte in 0..<4096 as Range<UInt64> {
      let address = GuestAddress(0x1000 + byte)
      let old = try memory.read(UInt8.self, at: address)
      try memory.write(old ^ 1 << (byte % 8), at: address)
      digests.insert(try memory.digest(page))
      try memory.write(old, at: address)
    }
    #expect(digests.count == 4097)
    for byteCount in 0..<100 as Range<UInt64> { digests.insert(try memory.digest(range(0x3000, byteCount))) }
    #expect(digests.count == 4197)
    let first = try memory.read(UInt64.self, at: GuestAddress(0x1000))
    try memory.write(memory.read(UInt64.self, at: GuestAddress(0x1030)), at: GuestAddress(0x1000))
    try memory.write(first, at: GuestAddress(0x1030))
    digests.insert(try memory.digest(page))
    #expect(digests.count == 4198)
  }

  @Test("a digest is of the bytes alone, wherever they lie, and is the same on every machine")
  func digestOfBytes() throws {
    let memory = try GuestMemory(byteCount: 0x4000)
    let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0 * 31) }
    try memory.write(bytes: bytes, at: GuestAddress(0x1000))
    try memory.write(bytes: bytes, at: GuestAddress(0x2003))
    let digest = try memory.digest(range(0x1000, 1000))
    #expect(try memory.digest(range(0x2003, 1000)) == digest)
    #expect(digest == 839_416_626_438_265_954)
  }

  @Test("what is not memory of one region is refused, without a trap")
  func refused() throws {
    let memory = try GuestMemory.patched()
    for part in [range(0x2FFF, 2), range(.max, 1), range(0, .max), range(0x1000, 1 << 63)] {
      let expected = GuestMemoryError.outside(part)
      #expect(failure { () throws(GuestMemoryError) in _ = try memory.isZero(part) } == expected)
      #expect(failure { () throws(GuestMemoryError) in _ = try memory.digest(part) } == expected)
    }
    let divided = GuestMemoryError.divided(range(0x1FFF, 2))
    #expect(failure { () throws(GuestMemoryError) in _ = try memory.isZero(range(0x1FFF, 2)) } == divided)
    #expect(failure { () throws(GuestMemoryError) in _ = try memory.digest(range(0x1FFF, 2)) } == divided)
  }
}
