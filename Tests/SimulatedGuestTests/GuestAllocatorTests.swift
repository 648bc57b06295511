import GuestRAM
import SimulatedGuest
import Support
import Testing

@Suite("GuestAllocator") struct GuestAllocatorTests {
  private func guest(pages: UInt64 = 1024, poison: UInt32? = nil) throws -> Guest {
    try Guest.boot(
      GuestConfiguration(
        seed: 1, diskPages: 8, filePages: 64, workingSetPages: 16, anonymousPages: 16, poison: poison),
      in: GuestMemory(byteCount: pages * 4096))
  }

  @Test("No page is handed out twice, and the counts are those of a list kept beside")
  func randomUse() throws {
    var random = SeededGenerator(for: "GuestAllocator.randomUse")
    let allocator = try guest().allocator
    let start = try allocator.freeCount()
    var owned: [UInt32: PageKind] = [:]
    for _ in 0..<20_000 {
      if random.once(in: 2), let page = owned.keys.randomElement(using: &random) {
        owned[page] = nil
        try allocator.release(page)
      } else {
        let kind = random.once(in: 3) ? PageKind.anonymous : .workingSet
        guard let page = try allocator.allocate(kind) else {
          try #require(owned.count == Int(start), "no page, though some are free")
          continue
        }
        try #require(owned.updateValue(kind, forKey: page) == nil, "page \(page) twice")
      }
    }
    #expect(try allocator.freeCount() == start - UInt64(owned.count))
    for kind in [PageKind.anonymous, .workingSet] {
      #expect(try allocator.count(of: kind) == UInt64(owned.values.count { $0 == kind }))
    }
    for (page, kind) in owned { #expect(try allocator.kind(of: page) == kind) }
  }

  @Test("Every free page can be had, and then none", arguments: [64, 65, 71, 1024] as [UInt64])
  func exhaustion(pages: UInt64) throws {
    let allocator = try guest(pages: pages).allocator
    var pages: Set<UInt32> = []
    for _ in 0..<(try allocator.freeCount()) { pages.insert(try #require(try allocator.allocate(.anonymous))) }
    #expect(try allocator.allocate(.anonymous) == nil)
    #expect(pages.count == Int(try allocator.count(of: .anonymous)))
    #expect(pages.allSatisfy { $0 < allocator.pageCount })
  }

  @Test("A run is in one piece, free before, and the first that is long enough")
  func runs() throws {
    let allocator = try guest().allocator
    let first = try #require(try allocator.allocateRun(of: 40, .anonymous))
    for page in [first + 3, first + 10, first + 11, first + 12] { try allocator.release(page) }
    #expect(try allocator.allocateRun(of: 3, .workingSet) == first + 10)
    #expect(try allocator.allocateRun(of: 2, .workingSet) == first + 40)
    #expect(try allocator.allocateRun(of: 1, .workingSet) == first + 3)
    #expect(try allocator.allocateRun(of: 2000, .workingSet) == nil)
    #expect(try allocator.allocateRun(of: 0, .workingSet) == nil)
  }

  @Test("A freed page keeps what was in it, and its host memory")
  func staleContents() throws {
    let guest = try guest()
    let page = try #require(try guest.allocator.allocate(.anonymous))
    let address = GuestAddress(UInt64(page) * 4096)
    try guest.memory.write(UInt64(0xFEED), at: address)
    let before = try guest.memory.residentByteCount()
    try guest.allocator.release(page)
    #expect(try guest.memory.residentByteCount() == before)
    #expect(try guest.memory.read(UInt64.self, at: address) == 0xFEED)
  }

  @Test("5.5.6.6: a guest that poisons fills freed pages, and notices when one is changed behind its back")
  func poisoning() throws {
    let guest = try guest(pages: 64, poison: 0xAABB_CCDD)
    let page = try #require(try guest.allocator.allocate(.anonymous))
    try guest.allocator.release(page)
    let address = GuestAddress(UInt64(page) * 4096 + 4092)
    #expect(try guest.memory.read(UInt32.self, at: address) == 0xAABB_CCDD)
    #expect(try guest.checkIntegrity().isIntact)
    try guest.memory.write(UInt32(0), at: address)
    while try guest.allocator.allocate(.anonymous) != nil {}
    #expect(try guest.count(of: .poisonLosses) == 1)
    #expect(try guest.checkIntegrity().mismatch?.address == GuestAddress(UInt64(page) * 4096))
  }

  @Test("Memory that is too small, or not in one piece from address 0, is refused")
  func unsuitableMemory() throws {
    #expect(throws: GuestError.self) { _ = try guest(pages: 2) }
    #expect(throws: GuestError.self) { _ = try guest(pages: 12) }
    let high = try GuestMemory(regions: [MemoryRegion(memoryFile: 1 << 20, start: GuestAddress(1 << 20))])
    let range = GuestRange(start: GuestAddress(1 << 20), byteCount: 1 << 20)
    #expect(throws: GuestError.unsuitableMemory(range)) {
      _ = try Guest.boot(GuestConfiguration(seed: 1), in: high)
    }
  }
}
