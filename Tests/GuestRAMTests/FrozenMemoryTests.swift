import LinuxIO
import Support
import Testing

@testable import GuestRAM

@Suite(
  "GuestRAM: frozen memory", .serialized,
  .enabled(if: FrozenMemory.isAvailable, "SKIPPED: this process may not have a userfaultfd that system calls wait for"))
struct FrozenMemoryTests {
  private static let pageCount: UInt64 = 700

  /// Takes all of it, and returns what each page held that had memory behind it.
  private func takeAll(_ frozen: FrozenMemory) throws -> [UInt64: [UInt8]] {
    var contents: [UInt64: [UInt8]] = [:]
    while let runs = try frozen.takeNext() {
      var place: UInt64 = 0
      for run in runs {
        for offset in stride(from: 0, to: run.range.byteCount, by: 4096) {
          let page = run.range.start.rawValue + offset
          #expect(contents[page] == nil, "a page is taken once")
          contents[page] = try run.isZero ? [] : frozen.stage.readBytes(4096, at: GuestAddress(place + offset))
        }
        if !run.isZero { place += run.range.byteCount }
      }
    }
    return contents
  }

  @Test(
    "whatever is written, filled or given back between two stretches, each page is taken as it was", arguments: [0, 1])
  func between(kind: Int) throws {
    let start = GuestAddress(1 << 20)
    let region =
      kind == 0
      ? try MemoryRegion(memoryFile: Self.pageCount * 4096, start: start)
      : try MemoryRegion(anonymous: Self.pageCount * 4096, start: start)
    let memory = try GuestMemory(regions: [region])
    var generator = SeededGenerator(for: "FrozenMemoryTests.between")
    func page() -> GuestAddress {
      GuestAddress(start.rawValue + UInt64.random(in: 0..<Self.pageCount, using: &generator) * 4096)
    }
    func disturb() throws {
      for _ in 0..<40 {
        switch UInt64.random(in: 0..<3, using: &generator) {
        case 0: try memory.discard(GuestRange(start: page(), byteCount: 4096))
        default: try memory.write(UInt64.random(in: 0..<3, using: &generator), at: page())
        }
      }
    }
    for _ in 0..<20 { try disturb() }
    let frozen = try FrozenMemory(memory, mostBytesAside: 4 << 20)
    try disturb()
    var then: [UInt64: [UInt8]] = [:]
    for range in try memory.residentRanges() {
      for address in stride(from: range.start.rawValue, to: range.start.rawValue + range.byteCount, by: 4096) {
        then[address] = try memory.readBytes(4096, at: GuestAddress(address))
      }
    }
    try frozen.freeze()
    try disturb()
    let taken = try takeAll(frozen)
    for (page, bytes) in then where bytes.contains(where: { $0 != 0 }) { #expect(taken[page] == bytes) }
    for (page, bytes) in taken where then[page]?.contains(where: { $0 != 0 }) != true {
      #expect(bytes.isEmpty, "\(page)")
    }
    #expect(frozen.asideCount > 0)
    frozen.end()
    try disturb()
    #expect(throws: GuestMemoryError.trackingEnded) { try frozen.takeNext() }
  }

  @Test("memory whose page faults somebody else has is refused, and left as it was")
  func busy() throws {
    let memory = try GuestMemory(byteCount: 1 << 20)
    let tracker = try WriteTracker(memory)
    #expect(throws: GuestMemoryError.self) { try FrozenMemory(memory, mostBytesAside: 1 << 20) }
    try memory.write(UInt64(1), at: GuestAddress(4096))
    #expect(try tracker.writtenByteCount() >= 4096)
  }
}
