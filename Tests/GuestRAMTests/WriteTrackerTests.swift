import LinuxIO
import Support
import Synchronization
import Testing

@testable import GuestRAM

@Suite(
  "GuestRAM: write tracker", .serialized,
  .enabled(if: !WriteTracker.available.isEmpty, "SKIPPED: the kernel (before Linux 6.4) or the rights of this process"))
struct WriteTrackerTests {
  static let page: UInt64 = 4096

  /// Anonymous memory, a memfd, and the end of another.
  static func memory() throws -> GuestMemory {
    let file = try MemoryFile.create(name: "tracked", byteCount: 1 << 20)
    return try GuestMemory(regions: [
      MemoryRegion(anonymous: 1 << 20, start: GuestAddress(0)),
      MemoryRegion(memoryFile: 1 << 20, start: GuestAddress(1 << 20)),
      MemoryRegion(file: file, at: 5 * page, byteCount: 100 * page, start: GuestAddress(1 << 32)),
    ])
  }

  @Test(
    "the machine has both methods to test",
    .enabled(if: WriteTracker.available.count == 2, "SKIPPED: one of the methods is not tested here"))
  func both() {
    #expect(WriteTracker.available == [.asynchronous, .synchronous])
  }

  @Test("written pages are found once, in rising order, each region's apart", arguments: WriteTracker.available)
  func writes(_ method: WriteTracker.Method) throws {
    let memory = try Self.memory()
    for address in [0, 0x3000, 1 << 20, 1 << 32] as [UInt64] { try memory.write(UInt8(1), at: GuestAddress(address)) }
    let tracker = try WriteTracker(memory, method: method)
    #expect(tracker.method == method)
    #expect(try tracker.takeRanges() == [])
    for address in [0x7FFF, 0x3000, (1 << 20) - 1, 1 << 20, 1 << 32, (1 << 32) + 99 * Self.page] as [UInt64] {
      try memory.write(UInt8(2), at: GuestAddress(address))
    }
    let expected = [
      0x3000, 0x7000, (1 << 20) - Self.page, 1 << 20, 1 << 32, (1 << 32) + 99 * Self.page,
    ].map { range($0, Self.page) }
    #expect(try tracker.writtenByteCount() == 6 * Self.page)
    #expect(try tracker.takeRanges() == expected)
    #expect(try tracker.writtenByteCount() == 0)
    #expect(try tracker.takeRanges() == [])
    try memory.write(UInt8(3), at: GuestAddress(0x3000))
    #expect(try tracker.takeRanges() == [range(0x3000, Self.page)])
  }

  @Test("what a system call stores is found", arguments: WriteTracker.available)
  func systemCalls(_ method: WriteTracker.Method) throws {
    let memory = try Self.memory()
    let file = try MemoryFile.create(name: "source", byteCount: 0x3000)
    try file.writeAll([UInt8](repeating: 7, count: 0x3000), at: 0)
    let tracker = try WriteTracker(memory, method: method)
    for start in [0x10800, (1 << 20) + 0x800] as [UInt64] {
      let buffers = [GuestBuffer(address: GuestAddress(start), byteCount: 0x1000)]
      var vectors = IOVectors()
      let count = try memory.fill(buffers, using: &vectors) { (vectors) throws(LinuxError) in
        try file.read(into: vectors, at: 0)
      }
      #expect(count == 0x1000)
    }
    let expected = Self.pages([range(0x10000, 0x2000), range(1 << 20, 0x2000)])
    let found = Self.pages(try tracker.takeRanges())
    // Pages behind writes that follow each other may come with them.
    #expect(method == .asynchronous ? found == expected : Set(found).isSuperset(of: expected))
  }

  @Test("a page that is first touched is found, and tracking itself touches none", arguments: WriteTracker.available)
  func untouched(_ method: WriteTracker.Method) throws {
    let memory = try Self.memory()
    try memory.write(UInt8(1), at: GuestAddress(0))
    let tracker = try WriteTracker(memory, method: method)
    #expect(try tracker.takeRanges() == [])
    #expect(try memory.residentByteCount() == Self.page)
    #expect(try memory.read(UInt8.self, at: GuestAddress(0x5000)) == 0)
    try memory.write(UInt8(1), at: GuestAddress(1 << 32))
    try memory.write(UInt8(1), at: GuestAddress(0x9000))
    #expect(try tracker.takeRanges() == [range(0x9000, Self.page), range(1 << 32, Self.page)])
    #expect(try tracker.takeRanges() == [])
    tracker.stop()
    #expect(try memory.residentRanges().contains(range(1 << 32, Self.page)))
    #expect(try memory.residentByteCount() <= 4 * Self.page)
  }

  @Test(
    "5.5.6: a page that was given back is found, whatever it was before, and a write to it after that",
    arguments: WriteTracker.available)
  func discards(_ method: WriteTracker.Method) throws {
    let memory = try Self.memory()
    for start in [0, 1 << 20, 1 << 32] as [UInt64] {
      try memory.write(bytes: [UInt8](repeating: 1, count: 0x4000), at: GuestAddress(start))
    }
    let tracker = try WriteTracker(memory, method: method)
    for start in [0, 1 << 20, 1 << 32] as [UInt64] {
      // Pages that were written before or not, and one that was never there.
      try memory.write(UInt8(2), at: GuestAddress(start))
      for page in [0, 1, 0x10] as [UInt64] { try memory.discard(range(start + page * Self.page, Self.page)) }
      let found = [range(start, 0x2000), range(start + 0x10000, Self.page)]
      #expect(try tracker.writtenByteCount() == 0x3000)
      #expect(try tracker.takeRanges() == found)
      #expect(try tracker.takeRanges() == [])
      for page in [0x10, 1] as [UInt64] { try memory.write(UInt8(3), at: GuestAddress(start + page * Self.page)) }
      #expect(try tracker.takeRanges() == [range(start + 0x1000, Self.page), range(start + 0x10000, Self.page)])
    }
  }

  @Test(
    "no write is lost that races with a collection, nor one by a system call, nor a discard",
    arguments: WriteTracker.available)
  func stress(_ method: WriteTracker.Method) throws {
    let random = SeededGenerator(for: "WriteTrackerTests.stress(\(method))")
    let memory = try Self.memory()
    var copy = Dictionary(uniqueKeysWithValues: try memory.regions.map { ($0.range, try memory.content(of: $0.range)) })
    let tracker = try WriteTracker(memory, method: method)
    let writers = try (0..<3).map { try Writer(memory, seed: random.seed &+ UInt64($0)) }
    let running = Atomic(writers.count)
    let workers = try ThreadGroup(writers.count) { (index) in
      writers[index].run()
      running.subtract(1, ordering: .sequentiallyConsistent)
    }
    repeat {
      try tracker.collect { copy.update($0, from: memory) }
    } while running.load(ordering: .sequentiallyConsistent) > 0
    workers.join()
    try tracker.collect { copy.update($0, from: memory) }
    for region in memory.regions { #expect(copy[region.range] == (try memory.content(of: region.range))) }
    #expect(writers.allSatisfy { $0.failureCount == 0 })
  }

  @Test("after the end nobody waits, nothing is found, and another may begin", arguments: WriteTracker.available)
  func end(_ method: WriteTracker.Method) throws {
    let memory = try Self.memory()
    let writer = try Writer(memory, seed: 1)
    let worker = try ThreadGroup(1) { (_) in writer.run() }
    for _ in 0..<20 {
      let tracker = try WriteTracker(memory, method: method)
      _ = try tracker.takeRanges()
      tracker.stop()
      tracker.stop()
      #expect(failure { () throws(GuestMemoryError) in try tracker.collect { _ in } } == .trackingEnded)
    }
    worker.join()
    do { _ = try WriteTracker(memory, method: method) }
    try memory.write(UInt8(1), at: GuestAddress(0))
  }

  @Test("memory has one tracker at a time, and one of whole pages", arguments: WriteTracker.available)
  func refusals(_ method: WriteTracker.Method) throws {
    let memory = try Self.memory()
    let tracker = try WriteTracker(memory, method: method)
    let error = failure { () throws(GuestMemoryError) in _ = try WriteTracker(memory, method: method) }
    #expect(error == .system(LinuxError(call: "ioctl(UFFDIO_REGISTER)", number: 16)))
    try memory.write(UInt8(1), at: GuestAddress(0))
    try memory.discard(range(1 << 20, Self.page))
    #expect(try tracker.takeRanges() == [range(0, Self.page), range(1 << 20, Self.page)])
    let crooked = try GuestMemory(regions: [MemoryRegion(anonymous: 0x2000, start: GuestAddress(0x800))])
    #expect(
      failure { () throws(GuestMemoryError) in _ = try WriteTracker(crooked, method: method) }
        == .unaligned(GuestAddress(0x800), multipleOf: 4096))
  }

  /// The pages of ranges.
  static func pages(_ ranges: [GuestRange]) -> [UInt64] {
    ranges.flatMap { Array(stride(from: $0.start.rawValue, to: $0.start.rawValue + $0.byteCount, by: 4096)) }
  }
}

extension WriteTracker {
  /// What was written, which is then protected again.
  func takeRanges() throws -> [GuestRange] {
    var ranges: [GuestRange] = []
    try collect { ranges.append($0) }
    return ranges
  }
}

/// Changes memory in all the ways there are.
final class Writer: Sendable {
  private let memory: GuestMemory
  private let seed: UInt64
  private let source: FileDescriptor
  private let failures = Atomic(0)

  init(_ memory: GuestMemory, seed: UInt64) throws {
    self.memory = memory
    self.seed = seed
    source = try MemoryFile.create(name: "source", byteCount: 1 << 16)
    try source.writeAll((0..<(1 << 16)).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ $0 >> 7) | 1 }, at: 0)
  }

  var failureCount: Int { failures.load(ordering: .acquiring) }

  func run() {
    var random = SeededGenerator(seed: seed)
    for step in 0..<4000 as Range<UInt64> {
      do {
        try change(step, &random)
      } catch {
        failures.add(1, ordering: .releasing)
      }
    }
  }

  private func change(_ step: UInt64, _ random: inout SeededGenerator) throws {
    guard let region = memory.regions.randomElement(using: &random)?.range else { return }
    let page = region.start.rawValue + UInt64.random(in: 0..<region.byteCount / 4096, using: &random) * 4096
    switch Int.random(in: 0..<8, using: &random) {
    case 0: try memory.discard(range(page, 4096))
    case 1:
      let buffers = [GuestBuffer(address: GuestAddress(page), byteCount: 4096)]
      let offset = Int.random(in: 0..<60000, using: &random)
      var vectors = IOVectors()
      _ = try memory.fill(buffers, using: &vectors) { (vectors) throws(LinuxError) in
        try source.read(into: vectors, at: offset)
      }
    default:
      try memory.write(step << 32 | seed, at: GuestAddress(page + 8 * UInt64.random(in: 0..<512, using: &random)))
    }
  }
}

extension GuestMemory {
  func content(of range: GuestRange) throws -> [UInt8] {
    try readBytes(Int(range.byteCount), at: range.start)
  }
}

extension [GuestRange: [UInt8]] {
  /// Copies what a tracker has found.
  mutating func update(_ changed: GuestRange, from memory: GuestMemory) {
    for region in Array(keys) {
      guard region.overlap(changed) == changed, let bytes = try? memory.content(of: changed) else { continue }
      let offset = Int(changed.start.rawValue - region.start.rawValue)
      self[region]?.replaceSubrange(offset..<offset + bytes.count, with: bytes)
    }
  }
}
