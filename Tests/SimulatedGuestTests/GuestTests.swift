import DeviceState
import GuestRAM
import SimulatedGuest
import Support
import Testing

/// Copies what the host holds of a guest into fresh memory, as a migration would.
func copy(_ memory: GuestMemory) throws -> GuestMemory {
  let other = try GuestMemory(byteCount: memory.byteCount)
  for range in try memory.residentRanges() {
    try other.write(bytes: memory.readBytes(Int(range.byteCount), at: range.start), at: range.start)
  }
  return other
}

/// A digest of all the memory that a guest has touched.
func digest(_ memory: GuestMemory) throws -> [GuestAddress: UInt64] {
  var digests: [GuestAddress: UInt64] = [:]
  for range in try memory.residentRanges() {
    for offset in stride(from: 0, to: range.byteCount, by: 4096) {
      let page = GuestRange(start: range.start.offset(offset), byteCount: 4096)
      if try !memory.isZero(page) { digests[page.start] = try memory.digest(page) }
    }
  }
  return digests
}

@Suite("Guest") struct GuestTests {
  private func boot(_ workload: Workload = .idle, seed: UInt64 = 42, pages: UInt64 = 1024) throws -> Guest {
    try Guest.boot(
      GuestConfiguration(seed: seed, diskPages: 64, workingSetPages: 150, workload: workload, pagesPerStep: 16),
      in: GuestMemory(byteCount: pages * 4096))
  }

  @Test("Two guests of one seed do the same, of another seed something else", arguments: Workload.allCases)
  func determinism(workload: Workload) throws {
    var guests = [try boot(workload), try boot(workload), try boot(workload, seed: 43)]
    for index in guests.indices { try guests[index].run(steps: 80) }
    let digests = try guests.map { try digest($0.memory) }
    #expect(digests[0] == digests[1])
    #expect(digests[0] != digests[2])
    #expect(guests[0].save() == guests[1].save())
  }

  @Test("A guest goes on elsewhere from its memory and its registers", arguments: Workload.allCases)
  func restore(workload: Workload) throws {
    var here = try boot(workload)
    try here.run(steps: 50)
    var snapshot = Snapshot()
    try snapshot.add(here.save())
    let state = try Snapshot(decoding: snapshot.encoded()).read(GuestState.self)
    var there = try Guest(restoring: state, in: copy(here.memory))
    try here.run(steps: 50)
    try there.run(steps: 50)
    #expect(try digest(here.memory) == digest(there.memory))
    #expect(here.save() == there.save())
    #expect(try there.checkIntegrity().isIntact)
  }

  @Test("Every workload leaves its pages, its tables and its counts as they must be", arguments: Workload.allCases)
  func integrity(workload: Workload) throws {
    var guest = try boot(workload)
    try guest.run(steps: 80)
    let report = try guest.checkIntegrity()
    #expect(report.mismatch == nil)
    let figures = try guest.figures()
    #expect(
      report.pagesChecked * 4096
        == figures.diskByteCount + figures.cacheByteCount + figures.workloadByteCount)
    #expect(
      figures.totalByteCount
        == figures.freeByteCount + figures.cacheByteCount + figures.workloadByteCount + figures.diskByteCount
        + figures.kernelByteCount)
  }

  @Test("One changed byte is found, and where it is", arguments: [PageKind.disk, .cache, .workingSet])
  func flippedByte(kind: PageKind) throws {
    var random = SeededGenerator(for: "Guest.flippedByte")
    var guest = try boot(kind == .workingSet ? .dirtying : .pageCache)
    try guest.run(steps: 30)
    let pages = try (0..<guest.allocator.pageCount).filter { try guest.allocator.kind(of: $0) == kind }
    let page = try #require(pages.randomElement(using: &random))
    let place = UInt64(page) * 4096 + UInt64.random(in: 0..<4096, using: &random)
    let byte = try guest.memory.read(UInt8.self, at: GuestAddress(place))
    try guest.memory.write(byte ^ 0x10, at: GuestAddress(place))
    let mismatch = try #require(try guest.checkIntegrity().mismatch)
    #expect(mismatch.address == GuestAddress(place & ~7))
    #expect((mismatch.expected ^ mismatch.found).nonzeroBitCount == 1)
    try guest.memory.write(byte, at: GuestAddress(place))
    #expect(try guest.checkIntegrity().isIntact)
  }

  @Test("A page lost on the way, or one for another, is found")
  func swappedPages() throws {
    let guest = try boot()
    let pages = try (0..<guest.allocator.pageCount).filter { try guest.allocator.kind(of: $0) == .disk }
    let places = pages.prefix(2).map { GuestAddress(UInt64($0) * 4096) }
    let contents = try places.map { try guest.memory.readBytes(4096, at: $0) }
    try guest.memory.write(bytes: contents[1], at: places[0])
    #expect(try guest.checkIntegrity().mismatch?.address == places[0])
    try guest.memory.write(bytes: contents[0], at: places[0])
    try guest.memory.discard(GuestRange(start: places[1], byteCount: 4096))
    #expect(try guest.checkIntegrity().mismatch?.address == places[1])
  }

  @Test("A damaged page table is found")
  func damagedTable() throws {
    let guest = try boot()
    try guest.memory.write(UInt8(0x5A), at: GuestAddress(4096 + 500))
    #expect(try guest.checkIntegrity().mismatch?.what.contains("page table") == true)
  }

  @Test("Looking at the guest makes none of its memory resident")
  func checksTouchNothing() throws {
    var guest = try boot(.pageCache)
    try guest.run(steps: 20)
    let before = try guest.memory.residentByteCount()
    #expect(try guest.checkIntegrity().isIntact)
    _ = try guest.figures()
    #expect(try guest.memory.residentByteCount() == before)
    #expect(before < guest.memory.byteCount / 2)
  }

  @Test("The page cache fills memory, and gives way to who wants it")
  func cacheGivesWay() throws {
    var guest = try boot(.pageCache)
    try guest.run(steps: 80)
    #expect(try guest.figures().freeByteCount < 64 * 4096)
    let available = try guest.figures().availableByteCount
    guest.workload = .dirtying
    try guest.run(steps: 20)
    #expect(try guest.figures().workloadByteCount == 150 * 4096)
    #expect(try guest.figures().availableByteCount == available - 150 * 4096)
    #expect(try guest.count(of: .oomKills) == 0)
    #expect(try guest.checkIntegrity().isIntact)
  }

  @Test("Without a balloon to help, a workload that wants more than there is gets killed and begins anew")
  func outOfMemory() throws {
    var guest = try boot(.pressure)
    try guest.run(steps: 80)
    #expect(try guest.count(of: .oomKills) > 0)
    #expect(try guest.checkIntegrity().isIntact)
  }

  @Test("Memory without a guest, or with a damaged one, is refused and not believed")
  func damagedBoot() throws {
    var guest = try boot()
    let state = guest.save()
    #expect(throws: GuestError.notAGuest(found: 0)) {
      _ = try Guest(restoring: state, in: GuestMemory(byteCount: 1 << 24))
    }
    #expect(throws: GuestError.damaged(field: "page count", value: 1024)) {
      let smaller = try GuestMemory(byteCount: 1 << 21)
      try smaller.write(bytes: guest.memory.readBytes(4096, at: GuestAddress(0)), at: GuestAddress(0))
      _ = try Guest(restoring: state, in: smaller)
    }
    var elsewhere = state
    elsewhere.bootBlock = 4096
    #expect(throws: GuestError.damaged(field: "boot block", value: 4096)) {
      _ = try Guest(restoring: elsewhere, in: guest.memory)
    }
  }

  @Test("A guest whose memory was damaged at random fails with an error or a report, and never worse")
  func randomDamage() throws {
    var random = SeededGenerator(for: "Guest.randomDamage")
    for _ in 0..<60 {
      var guest = try boot(Workload.allCases.randomElement(using: &random) ?? .idle, pages: 512)
      try guest.run(steps: 10)
      let state = guest.save()
      for _ in 0..<8 {
        let address = GuestAddress(UInt64.random(in: 0..<0x1400, using: &random))
        try guest.memory.write(UInt8.random(in: 0...255, using: &random), at: address)
      }
      do throws(GuestError) {
        var damaged = try Guest(restoring: state, in: guest.memory)
        try damaged.run(steps: 20)
        _ = try damaged.checkIntegrity()
      } catch {
        #expect(!error.description.isEmpty)
      }
    }
  }

  @Test("A dirty log put in while the guest runs sees what the guest writes")
  func dirtyLog() throws {
    var guest = try boot(.dirtying)
    try guest.run(steps: 10)
    let plain = guest.memory
    let log = try DirtyLog(coveringUpTo: GuestAddress(plain.byteCount))
    try guest.use(plain.with(dirtyLog: log))
    let before = try digest(plain)
    try guest.run(steps: 10)
    var marked: Set<UInt64> = []
    log.collect { marked.insert($0) }
    let after = try digest(plain)
    let changed = Set(after.filter { before[$0.key] != $0.value }.map { $0.key.rawValue / 4096 })
    #expect(!changed.isEmpty)
    #expect(changed.isSubset(of: marked))
  }
}
