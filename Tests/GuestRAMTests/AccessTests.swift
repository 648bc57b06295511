import GuestRAM
import Support
import Testing

@Suite("GuestRAM: reading and writing")
struct AccessTests {
  @Test("integers are little endian at every alignment")
  func integers() throws {
    let memory = try GuestMemory(byteCount: 0x1000)
    for offset in 0..<8 as Range<UInt64> {
      let address = GuestAddress(0x100 + offset)
      try memory.write(UInt64(0x0807_0605_0403_0201), at: address)
      #expect(try memory.readBytes(8, at: address) == [1, 2, 3, 4, 5, 6, 7, 8])
      #expect(try memory.read(UInt8.self, at: address) == 1)
      #expect(try memory.read(UInt16.self, at: address) == 0x0201)
      #expect(try memory.read(UInt32.self, at: address) == 0x0403_0201)
      #expect(try memory.read(UInt64.self, at: address) == 0x0807_0605_0403_0201)
      try memory.write(UInt8(0xA1), at: address)
      try memory.write(UInt16(0xC1B1), at: GuestAddress(address.rawValue + 1))
      try memory.write(UInt32(0xF4F3_F2F1), at: GuestAddress(address.rawValue + 3))
      #expect(try memory.readBytes(8, at: address) == [0xA1, 0xB1, 0xC1, 0xF1, 0xF2, 0xF3, 0xF4, 8])
    }
  }

  @Test("an integer may lie on the border of two regions, split anywhere")
  func straddling() throws {
    let memory = try GuestMemory.patched()
    for before in 0...8 as ClosedRange<UInt64> {
      let address = GuestAddress(0x2000 - before)
      try memory.write(UInt64(0x0807_0605_0403_0201), at: address)
      #expect(try memory.read(UInt64.self, at: address) == 0x0807_0605_0403_0201)
      #expect(try memory.readBytes(8, at: address) == [1, 2, 3, 4, 5, 6, 7, 8])
      try memory.write(UInt64(0), at: address)
    }
    for before in 1..<8 as Range<UInt64> {
      let start = 0x3000 - before
      #expect(
        failure { () throws(GuestMemoryError) in _ = try memory.read(UInt64.self, at: GuestAddress(start)) }
          == outside(start, 8))
      #expect(
        failure { () throws(GuestMemoryError) in try memory.write(UInt64.max, at: GuestAddress(start)) }
          == outside(start, 8))
      #expect(try memory.readBytes(Int(before), at: GuestAddress(start)).allSatisfy { $0 == 0 })
    }
  }

  @Test("bytes are copied whole or not at all, over as many regions as they touch")
  func bytes() throws {
    let starts = (0..<5).map { UInt64($0) * 0x1000 }
    let memory = try GuestMemory(regions: starts.map { try MemoryRegion(anonymous: 0x1000, start: GuestAddress($0)) })
    let bytes = (0..<0x3002).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 8) }
    try memory.write(bytes: bytes, at: GuestAddress(0xFFF))
    #expect(try memory.readBytes(bytes.count, at: GuestAddress(0xFFF)) == bytes)
    var copy = [UInt8](repeating: 0, count: bytes.count)
    try memory.read(into: &copy, at: GuestAddress(0xFFF))
    #expect(copy == bytes)
    let before = try memory.readBytes(0x1000, at: GuestAddress(0x4000))
    #expect(
      failure { () throws(GuestMemoryError) in try memory.write(bytes: bytes, at: GuestAddress(0x4000)) }
        == outside(0x4000, 0x3002))
    #expect(try memory.readBytes(0x1000, at: GuestAddress(0x4000)) == before)
  }

  @Test("reading or writing no bytes is nothing, wherever it is; a count below 0 is no range")
  func noBytes() throws {
    let memory = try GuestMemory.patched()
    for address in [0, 0x3000, 1 << 50, UInt64.max] {
      #expect(try memory.readBytes(0, at: GuestAddress(address)) == [])
      try memory.write(bytes: [], at: GuestAddress(address))
      try memory.check(range(address, 0))
    }
    #expect(
      failure { () throws(GuestMemoryError) in _ = try memory.readBytes(-1, at: GuestAddress(0)) } == outside(0, 0))
  }

  @Test("no address and no length traps: around every edge there is, accesses agree with a plain oracle")
  func edges() throws {
    let regions = [range(0, 0x1000), range(0x1000, 0x10), range(0x8000, 0x1001), range(.max - 0x1000, 0x1000)]
    let memory = try GuestMemory(
      regions: regions.map { try MemoryRegion(anonymous: $0.byteCount, start: $0.start) })
    func isMemory(_ address: UInt64) -> Bool {
      regions.contains { address >= $0.start.rawValue && address - $0.start.rawValue < $0.byteCount }
    }
    let edges: [UInt64] = [0, 0x1000, 0x1010, 0x8000, 0x9001, 1 << 63, .max - 0x1000, .max]
    for edge in edges {
      for distance in 0..<40 as Range<UInt64> {
        let address = edge &- 20 &+ distance
        for byteCount in [1, 2, 4, 8, 21] {
          let bytes = (0..<UInt64(byteCount)).map { address.addingReportingOverflow($0) }
          let isWhole = bytes.allSatisfy { !$0.overflow && isMemory($0.partialValue) }
          let expected = isWhole ? nil : outside(address, UInt64(byteCount))
          #expect(
            failure { () throws(GuestMemoryError) in
              _ = try memory.readBytes(byteCount, at: GuestAddress(address))
            } == expected)
          #expect(failure { () throws(GuestMemoryError) in try Self.touch(memory, address, byteCount) } == expected)
        }
        for byteCount in [.max, .max - 1, 1 << 63, 1 << 63 - 1, 0x1_0000_0000] as [UInt64] {
          #expect(
            failure { () throws(GuestMemoryError) in try memory.check(range(address, byteCount)) }
              == outside(address, byteCount))
        }
      }
    }
  }

  private static func touch(_ memory: GuestMemory, _ address: UInt64, _ byteCount: Int) throws(GuestMemoryError) {
    let address = GuestAddress(address)
    switch byteCount {
    case 1: try memory.write(memory.read(UInt8.self, at: address), at: address)
    case 2: try memory.write(memory.read(UInt16.self, at: address), at: address)
    case 4: try memory.write(memory.read(UInt32.self, at: address), at: address)
    case 8: try memory.write(memory.read(UInt64.self, at: address), at: address)
    default: try memory.write(bytes: memory.readBytes(byteCount, at: address), at: address)
    }
  }

  @Test("a random memory behaves like a plain array of bytes")
  func oracle() throws {
    var random = SeededGenerator(for: "AccessTests.oracle")
    let memory = try GuestMemory.patched()
    var bytes = [UInt8](repeating: 0, count: 0x3000)
    for _ in 0..<3000 {
      let start = Int.random(in: 0..<bytes.count, using: &random)
      let count = Int.random(in: 0...min(bytes.count - start, 300), using: &random)
      if random.once(in: 2) {
        let new = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
        try memory.write(bytes: new, at: GuestAddress(UInt64(start)))
        bytes.replaceSubrange(start..<(start + count), with: new)
      } else {
        #expect(try memory.readBytes(count, at: GuestAddress(UInt64(start))) == Array(bytes[start..<(start + count)]))
      }
    }
  }

  @Test("2.7.13: ring indices are aligned in the guest's memory, and in nobody else's")
  func indices() throws {
    let memory = try GuestMemory.patched()
    try memory.publish(0xABCD, at: GuestAddress(0x2FFE))
    #expect(try memory.acquire(at: GuestAddress(0x2FFE)) == 0xABCD)
    #expect(try memory.readBytes(2, at: GuestAddress(0x2FFE)) == [0xCD, 0xAB])
    for address in [1, 0x2FFD] as [UInt64] {
      let expected = GuestMemoryError.unaligned(GuestAddress(address), multipleOf: 2)
      #expect(failure { () throws(GuestMemoryError) in _ = try memory.acquire(at: GuestAddress(address)) } == expected)
      #expect(failure { () throws(GuestMemoryError) in try memory.publish(0, at: GuestAddress(address)) } == expected)
    }
    for address in [0x2FFF, 0x3000, UInt64.max] {
      #expect(
        failure { () throws(GuestMemoryError) in _ = try memory.acquire(at: GuestAddress(address)) }
          == outside(address, 2))
    }
  }
}
