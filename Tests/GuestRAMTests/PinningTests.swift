import Glibc
import LinuxIO
import Support
import Testing

@testable import GuestRAM

@Suite("GuestRAM: pinned memory") struct PinningTests {
  private static let pages: UInt64 = 64

  private func memory(isShared: Bool) throws -> GuestMemory {
    let memory = try PagesTests.memory(isShared: isShared, pages: Self.pages)
    try memory.pin()
    return memory
  }

  @Test("pinning touches nothing, and only what is touched gets memory", arguments: [false, true])
  func staysEmpty(isShared: Bool) throws {
    let memory = try memory(isShared: isShared)
    #expect(memory.isPinned)
    #expect(try memory.residentByteCount() == 0)
    try memory.write(UInt8(1), at: GuestAddress(0x12345))
    #expect(try memory.residentRanges() == [range(0x12000, 0x1000)])
  }

  @Test(
    "what is discarded goes back, reads as zeros, and can be used again, time after time", arguments: [false, true])
  func discard(isShared: Bool) throws {
    let memory = try memory(isShared: isShared)
    for round in 1...3 as ClosedRange<UInt8> {
      let bytes = [UInt8](repeating: round, count: Int(Self.pages) * 4096)
      try memory.write(bytes: bytes, at: GuestAddress(0x10000))
      try memory.discard(range(0x12000, 3 * 4096))
      #expect(try memory.residentByteCount() == (Self.pages - 3) * 4096)
      #expect(try memory.readBytes(3 * 4096, at: GuestAddress(0x12000)).allSatisfy { $0 == 0 })
      #expect(try memory.read(UInt8.self, at: GuestAddress(0x11FFF)) == round)
      #expect(try memory.read(UInt8.self, at: GuestAddress(0x15000)) == round)
      try memory.clear(range(0x14FFF, 4096 + 2))
      #expect(try memory.residentRanges(in: range(0x15000, 0x1000)).isEmpty)
    }
    try memory.discard(range(0x10000, 0))
    try memory.discard(range(0x10000, Self.pages * 4096))
    #expect(try memory.residentByteCount() == 0)
    #expect(memory.isPinned)
  }

  @Test("a region that begins within its file gives back its own pages and no others")
  func offset() throws {
    let file = try MemoryFile.create(name: "test", byteCount: 16 * 4096)
    let copy = try file.duplicate()
    let region = try MemoryRegion(file: copy, at: 4 * 4096, byteCount: 8 * 4096, start: GuestAddress(0))
    let whole = try Mapping(of: file, byteCount: 16 * 4096)
    let all = try GuestMemory(regions: [MemoryRegion(file: file, byteCount: 16 * 4096, start: GuestAddress(0))])
    try all.write(bytes: [UInt8](repeating: 7, count: 16 * 4096), at: GuestAddress(0))
    let memory = try GuestMemory(regions: [region])
    try memory.pin()
    try memory.discard(range(0, 0x2000))
    #expect(try all.residentRanges() == [range(0, 0x4000), range(0x6000, 0xA000)])
    #expect(!whole.isPinned)
  }

  @Test("what was pinned before is not among what pinning returns, and stays pinned when that is unpinned")
  func pinnedBefore() throws {
    let memory = try GuestMemory(regions: [
      MemoryRegion(memoryFile: 4096, start: GuestAddress(0)),
      MemoryRegion(anonymous: 4096, start: GuestAddress(1 << 32)),
    ])
    try GuestMemory(regions: [memory.regions[0]]).pin()
    let pinned = try memory.pin()
    #expect(memory.isPinned && pinned == [range(1 << 32, 4096)])
    try memory.unpin(pinned)
    #expect(memory.regions.map(\.mapping.isPinned) == [true, false])
  }

  @Test(
    "memory filled without page faults can be pinned, and so can memory whose writes are told",
    arguments: [false, true])
  func besideOthers(isShared: Bool) throws {
    let memory = try memory(isShared: isShared)
    let other = try PagesTests.memory(isShared: false)
    try other.write(bytes: [UInt8](repeating: 5, count: 4096), at: GuestAddress(0x10000))
    let fresh = FreshPages(of: memory)
    try fresh?.store(range(0x10000, 0x1000), of: other, at: GuestAddress(0x13000))
    fresh?.stop()
    if fresh != nil { #expect(try memory.read(UInt8.self, at: GuestAddress(0x13FFF)) == 5) }
    guard !WriteTracker.available.isEmpty else { return }
    let tracker = try WriteTracker(memory)
    try memory.write(UInt8(9), at: GuestAddress(0x15000))
    try memory.discard(range(0x13000, 0x1000))
    var found: [GuestRange] = []
    try tracker.collect { found.append($0) }
    tracker.stop()
    #expect(found.contains { $0.overlap(range(0x15000, 1)) != nil })
    #expect(try memory.read(UInt8.self, at: GuestAddress(0x13000)) == 0)
  }

  @Test("unpinned memory is as it was before")
  func unpin() throws {
    let memory = try memory(isShared: true)
    try memory.write(UInt8(1), at: GuestAddress(0x12000))
    try memory.unpin()
    #expect(!memory.isPinned)
    try memory.discard(range(0x12000, 0x1000))
    #expect(try memory.residentByteCount() == 0)
  }

  @Test("a limit that is too small is named with what was wanted and what to do")
  func limit() {
    let error = GuestMemoryError.cannotPin(byteCount: 1 << 30, limit: 8 << 20)
    let words = error.description
    for part in ["1073741824", "8388608", "ulimit -l", "CAP_IPC_LOCK"] { #expect(words.contains(part)) }
  }

  @Test("memory beyond the limit is refused, and what was pinned for it is let go of", .enabled(if: geteuid() != 0))
  func beyondLimit() throws {
    let limit = try #require(try PinLimit.byteCount)
    let memory = try GuestMemory(regions: [
      MemoryRegion(memoryFile: 4096, start: GuestAddress(0)),
      MemoryRegion(memoryFile: (limit / 4096 + 1) * 4096, start: GuestAddress(1 << 40)),
    ])
    #expect(throws: GuestMemoryError.cannotPin(byteCount: memory.byteCount, limit: limit)) { try memory.pin() }
    #expect(memory.regions.allSatisfy { !$0.mapping.isPinned })
  }
}
