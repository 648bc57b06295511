import LinuxIO
import Support
import Testing

@testable import GuestRAM

@Suite("GuestRAM: host memory behind the guest")
struct PagesTests {
  static func memory(isShared: Bool, pages: UInt64 = 64) throws -> GuestMemory {
    let start = GuestAddress(0x10000)
    return try GuestMemory(regions: [
      isShared
        ? MemoryRegion(memoryFile: pages * 4096, start: start) : MemoryRegion(anonymous: pages * 4096, start: start)
    ])
  }

  @Test("5.5.6: discarding gives memory back to the host, and it reads as zeros", arguments: [false, true])
  func discard(isShared: Bool) throws {
    let memory = try Self.memory(isShared: isShared)
    #expect(try memory.residentByteCount() == 0)
    try memory.write(bytes: [UInt8](repeating: 0xEE, count: 64 * 4096), at: GuestAddress(0x10000))
    #expect(try memory.residentByteCount() == 64 * 4096)
    try memory.discard(range(0x12000, 3 * 4096))
    #expect(try memory.residentByteCount() == 61 * 4096)
    #expect(try memory.residentRanges() == [range(0x10000, 0x2000), range(0x15000, 59 * 4096)])
    #expect(try memory.readBytes(3 * 4096, at: GuestAddress(0x12000)).allSatisfy { $0 == 0 })
    #expect(try memory.read(UInt8.self, at: GuestAddress(0x11FFF)) == 0xEE)
    #expect(try memory.read(UInt8.self, at: GuestAddress(0x15000)) == 0xEE)
    try memory.discard(range(0x10000, 64 * 4096))
    #expect(try memory.residentByteCount() == 0)
  }

  @Test("where memory is asked about in steps, what lies on both sides of a border is one range")
  func steps() throws {
    let step: UInt64 = 64 << 20
    let memory = try Self.memory(isShared: true, pages: (2 * step) / 4096 + 3)
    let all = memory.regions[0].range
    #expect(try memory.populate(all))
    #expect(try memory.residentRanges() == [all])
    let border = 0x10000 + step
    try memory.discard(range(border - 4096, 4096))
    #expect(
      try memory.residentRanges() == [range(0x10000, step - 4096), range(border, all.byteCount - step)])
    try memory.discard(range(border, 4096))
    #expect(
      try memory.residentRanges() == [range(0x10000, step - 4096), range(border + 4096, all.byteCount - step - 4096)])
    #expect(try memory.residentRanges(in: range(border, 8192)) == [range(border + 4096, 4096)])
    try memory.discard(all)
    #expect(try memory.residentRanges() == [])
  }

  @Test("stretches of data are found to the page, however long, and wherever the first begins", arguments: [0, 1, 17])
  func stretches(first: UInt64) throws {
    let memory = try Self.memory(isShared: true, pages: 1100)
    let all = range(0x10000 + first * 4096, (1100 - first) * 4096)
    #expect(try memory.populate(all))
    var pages = Array(first..<1100)
    for border in [16, 48, 112, 240, 496, 1008] as [UInt64] {
      for page in [border + first - 1, border + first] {
        pages.removeAll { $0 == page }
        try memory.discard(range(0x10000 + page * 4096, 4096))
        let ranges = try memory.residentRanges()
        #expect(
          ranges.flatMap { $0.start.rawValue / 4096..<($0.start.rawValue + $0.byteCount) / 4096 }
            == pages.map { $0 + 16 })
        #expect(zip(ranges, ranges.dropFirst()).allSatisfy { $0.end != $1.start })
      }
    }
  }

  @Test("a discarded page is marked: what it held is gone, as after any store")
  func discardIsMarked() throws {
    let log = try DirtyLog(coveringUpTo: GuestAddress(0x50000))
    let memory = try Self.memory(isShared: true).with(dirtyLog: log)
    try memory.discard(range(0x12000, 2 * 4096))
    #expect((0..<0x50).filter { log.isMarked(page: $0) } == [0x12, 0x13])
  }

  @Test("cleared bytes read as zeros, whole pages go back, and a hole gets nothing", arguments: [false, true])
  func clear(isShared: Bool) throws {
    let memory = try Self.memory(isShared: isShared)
    try memory.write(bytes: [UInt8](repeating: 0xEE, count: 8 * 4096), at: GuestAddress(0x10000))
    try memory.clear(range(0x11FFF, 2 * 4096 + 2))
    // Parts of pages that are not there: 0x18 is the first of them.
    try memory.clear(range(0x17800, 0x1000))
    try memory.clear(range(0x20010, 0x10))
    #expect(try memory.residentRanges() == [range(0x10000, 0x2000), range(0x14000, 0x4000)])
    #expect(try memory.readBytes(3, at: GuestAddress(0x11FFE)) == [0xEE, 0, 0])
    #expect(try memory.readBytes(2, at: GuestAddress(0x14000)) == [0, 0xEE])
    #expect(try memory.readBytes(2, at: GuestAddress(0x177FF)) == [0xEE, 0])
    #expect(throws: GuestMemoryError.self) { try memory.clear(range(0xF000, 0x2000)) }
  }

  @Test("discarding no bytes is nothing, wherever that is")
  func discardNothing() throws {
    let memory = try GuestMemory.patched()
    for address in [0, 1, 0x1000, 0x3000, .max] as [UInt64] {
      #expect(failure { () throws(GuestMemoryError) in try memory.discard(range(address, 0)) } == nil)
    }
  }

  @Test("what is no guest memory, or no whole pages, is refused and left as it is")
  func discardRefused() throws {
    let memory = try GuestMemory(regions: [
      MemoryRegion(memoryFile: 0x2000, start: GuestAddress(0)),
      MemoryRegion(anonymous: 0x1800, start: GuestAddress(0x2000)),
    ])
    try memory.write(bytes: [UInt8](repeating: 1, count: 0x3800), at: GuestAddress(0))
    let refused: [(GuestRange, GuestMemoryError)] = [
      (range(0x3000, 0x1000), outside(0x3000, 0x1000)), (range(0x1000, .max), outside(0x1000, .max)),
      (range(.max - 4095, 4096), outside(.max - 4095, 4096)),
      (range(0x800, 0x1000), .unaligned(GuestAddress(0x800), multipleOf: 4096)),
      (range(0x1000, 0x800), .unaligned(GuestAddress(0x1000), multipleOf: 4096)),
      (range(0, 0x3800), .unaligned(GuestAddress(0x2000), multipleOf: 4096)),
    ]
    for (range, expected) in refused {
      #expect(failure { () throws(GuestMemoryError) in try memory.discard(range) } == expected)
    }
    #expect(try memory.readBytes(0x3800, at: GuestAddress(0)).allSatisfy { $0 == 1 })
  }

  @Test("discarding goes over the borders of regions, each at its own offset in its file")
  func discardAcross() throws {
    let file = try MemoryFile.create(name: "test", byteCount: 0x8000)
    let whole = try file.duplicate()
    let memory = try GuestMemory(regions: [
      MemoryRegion(anonymous: 0x2000, start: GuestAddress(0)),
      MemoryRegion(file: file, at: 0x3000, byteCount: 0x4000, start: GuestAddress(0x2000)),
    ])
    let observer = try GuestMemory(regions: [MemoryRegion(file: whole, byteCount: 0x8000, start: GuestAddress(0))])
    try observer.write(bytes: [UInt8](repeating: 1, count: 0x8000), at: GuestAddress(0))
    try memory.write(bytes: [UInt8](repeating: 1, count: 0x6000), at: GuestAddress(0))
    try memory.discard(range(0x1000, 0x3000))
    #expect(try memory.residentRanges() == [range(0, 0x1000), range(0x4000, 0x2000)])
    #expect(try observer.residentRanges() == [range(0, 0x3000), range(0x5000, 0x3000)])
  }

  @Test("a region that starts or ends within a page of its file counts its own bytes alone")
  func partsOfPages() throws {
    let file = try MemoryFile.create(name: "test", byteCount: 0x4000)
    let memory = try GuestMemory(regions: [
      MemoryRegion(file: file, at: 0x800, byteCount: 0x1800, start: GuestAddress(0x10000))
    ])
    try memory.write(UInt8(1), at: GuestAddress(0x10000))
    #expect(try memory.residentRanges() == [range(0x10000, 0x800)])
    try memory.write(UInt8(1), at: GuestAddress(0x117FF))
    #expect(try memory.residentRanges() == [range(0x10000, 0x1800)])
    #expect(
      failure { () throws(GuestMemoryError) in try memory.discard(range(0x10000, 0x1000)) }
        == .unaligned(GuestAddress(0x10000), multipleOf: 4096))
    try memory.discard(range(0x10800, 0x1000))
    #expect(try memory.residentRanges() == [range(0x10000, 0x800)])
  }

  @Test("looking for resident memory makes none resident, however scattered it is", arguments: [false, true])
  func residentRanges(isShared: Bool) throws {
    var random = SeededGenerator(for: "PagesTests.residentRanges, shared: \(isShared)")
    let count: UInt64 = 20_000
    let memory = try Self.memory(isShared: isShared, pages: count)
    var touched: Set<UInt64> = []
    for _ in 0..<5000 {
      let page = UInt64.random(in: 0..<count, using: &random)
      touched.insert(page)
      try memory.write(UInt8(1), at: GuestAddress(0x10000 + page * 4096 + 17))
    }
    for _ in 0..<2 {
      let ranges = try memory.residentRanges()
      let pages = ranges.flatMap { range in
        (range.start.rawValue..<(range.start.rawValue + range.byteCount)).strides().map { ($0 - 0x10000) / 4096 }
      }
      #expect(pages == touched.sorted())
      #expect(zip(ranges, ranges.dropFirst()).allSatisfy { $0.0.end != $0.1.start })
      #expect(try memory.residentByteCount() == UInt64(touched.count) * 4096)
    }
  }

  @Test("a window refuses memory that is misaligned in its file, though not in the guest")
  func misalignedWindow() throws {
    let file = try MemoryFile.create(name: "test", byteCount: 0x4000)
    let memory = try GuestMemory(regions: [
      MemoryRegion(file: file, at: 0x801, byteCount: 0x1000, start: GuestAddress(0x1000))
    ])
    func refusal(_ address: UInt64, _ alignment: Int) -> GuestMemoryError? {
      failure { () throws(GuestMemoryError) in
        _ = try MemoryWindow(of: memory, at: GuestAddress(address), byteCount: 8, alignment: alignment)
      }
    }
    #expect(refusal(0x1000, 2) == .unaligned(GuestAddress(0x1000), multipleOf: 2))
    #expect(refusal(0x100F, 2) == .unaligned(GuestAddress(0x100F), multipleOf: 2))
    #expect(refusal(0x1000, 1) == nil)
    #expect(
      failure { () throws(GuestMemoryError) in _ = try memory.acquire(at: GuestAddress(0x1000)) }
        == .unaligned(GuestAddress(0x1000), multipleOf: 2))
    try memory.write(UInt64(0x1122_3344_5566_7788), at: GuestAddress(0x1000))
    #expect(try memory.read(UInt64.self, at: GuestAddress(0x1000)) == 0x1122_3344_5566_7788)
  }

  @Test("a window is refused outside memory, over a border, and with a length that cannot be")
  func refusedWindows() throws {
    let memory = try GuestMemory.patched()
    func refusal(_ address: UInt64, _ byteCount: Int) -> GuestMemoryError? {
      failure { () throws(GuestMemoryError) in
        _ = try MemoryWindow(of: memory, at: GuestAddress(address), byteCount: byteCount, alignment: 1)
      }
    }
    #expect(refusal(0x2000, 0x1000) == nil)
    #expect(refusal(0x1FFF, 2) == .divided(range(0x1FFF, 2)))
    #expect(refusal(0x2FFF, 2) == outside(0x2FFF, 2))
    #expect(refusal(.max, 2) == outside(.max, 2))
    #expect(refusal(0, .max) == outside(0, UInt64(Int.max)))
    #expect(refusal(0, -1) != nil)
  }

  @Test("a window keeps its memory mapped, and so does each share of it")
  func windowKeepsMemory() throws {
    func open() throws -> MemoryWindow {
      let memory = try GuestMemory(byteCount: 0x1000)
      let window = try MemoryWindow(of: memory, at: GuestAddress(0x10), byteCount: 16, alignment: 4)
      window.store(UInt32(77), at: 12)
      return window.share()
    }
    var window = try open()
    #expect(window.load(UInt32.self, at: 12) == 77)
    try window.move(to: GuestAddress(0x18), byteCount: 8)
    #expect(window.load(UInt32.self, at: 4) == 77)
  }
}

extension Range<UInt64> {
  fileprivate func strides() -> [UInt64] { Array(stride(from: lowerBound, to: upperBound, by: 4096)) }
}
