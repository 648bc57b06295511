import LinuxIO
import Support
import Synchronization
import Testing

@testable import GuestRAM

@Suite(
  "GuestRAM: missing pages", .serialized,
  .enabled(if: MissingPages.isAvailable, "SKIPPED: this process may not have a userfaultfd that system calls wait for"))
struct MissingPagesTests {
  static let page = 4096

  static func memory() throws -> GuestMemory {
    let file = try MemoryFile.create(name: "missing", byteCount: 1 << 20)
    return try GuestMemory(regions: [
      MemoryRegion(anonymous: 1 << 18, start: GuestAddress(0)),
      MemoryRegion(file: file, at: 0x5000, byteCount: 1 << 18, start: GuestAddress(1 << 32)),
    ])
  }

  /// A page that tells where it belongs.
  static func content(of page: UInt64) -> [UInt8] {
    (0..<4096).map { UInt8(truncatingIfNeeded: UInt64($0) &* 7 ^ page >> 12) | 1 }
  }

  @Test("threads and system calls that touch missing pages wait for them, whoever provides which in what order")
  func serve() throws {
    let memory = try Self.memory()
    let missing = try MissingPages(of: memory)
    let seed = SeededGenerator(for: "MissingPagesTests.serve").seed
    let server = try PageServer(missing)
    let serving = try ThreadGroup(1) { (_) in server.run() }
    let wrong = Atomic(0)
    let readers = try ThreadGroup(4) { (index) in
      var random = SeededGenerator(seed: seed &+ UInt64(index))
      if !Self.reads(memory, everyPageIn: &random, bySystemCall: index == 0) {
        wrong.add(1, ordering: .relaxed)
      }
    }
    readers.join()
    server.stop()
    serving.join()
    #expect(wrong.load(ordering: .relaxed) == 0)
    #expect(server.failure == nil)
    #expect(server.servedCount == 128)
  }

  /// Whether all pages have what they should, read in a random order.
  private static func reads(
    _ memory: GuestMemory, everyPageIn random: inout SeededGenerator, bySystemCall: Bool
  ) -> Bool {
    let pages = memory.regions.flatMap { (region) in
      (0..<64 as Range<UInt64>).map { region.range.start.rawValue + $0 * 4096 }
    }
    do {
      let sink = try MemoryFile.create(name: "sink", byteCount: 4096)
      for page in pages.shuffled(using: &random) {
        var bytes: [UInt8]
        if bySystemCall {
          var vectors = IOVectors()
          let buffers = [GuestBuffer(address: GuestAddress(page), byteCount: 4096)]
          _ = try memory.drain(buffers, using: &vectors) { (vectors) throws(LinuxError) in
            try sink.write(vectors, at: 0)
          }
          bytes = try sink.readBytes(upTo: 4096, at: 0)
        } else {
          bytes = try memory.readBytes(4096, at: GuestAddress(page))
        }
        if bytes != content(of: page) { return false }
      }
      return true
    } catch {
      return false
    }
  }

  @Test("pages that are there already stay as they are, and those around them are provided")
  func alreadyThere() throws {
    let memory = try Self.memory()
    for start in [0, 1 << 32] as [UInt64] {
      for page in [0, 2, 7] as [UInt64] { try memory.write(UInt8(0xEE), at: GuestAddress(start + page * 4096)) }
    }
    let missing = try MissingPages(of: memory)
    let bytes = [UInt8](repeating: 0x11, count: 8 * Self.page)
    for start in [0, 1 << 32] as [UInt64] {
      #expect(try missing.provide(bytes.span, at: GuestAddress(start)) == 5 * Self.page)
      #expect(try missing.provide(bytes.span, at: GuestAddress(start)) == 0)
      #expect(try missing.provideZeros(range(start, UInt64(10 * Self.page))) == 2 * Self.page)
      let firsts = try (0..<10 as Range<UInt64>).map {
        try memory.read(UInt8.self, at: GuestAddress(start + $0 * 4096))
      }
      #expect(firsts == [0xEE, 0x11, 0xEE, 0x11, 0x11, 0x11, 0x11, 0xEE, 0, 0])
    }
    missing.takeFaultsExpectingNone()
  }

  @Test("a range may cross regions, and one that is no memory or has parts of pages is refused")
  func ranges() throws {
    let memory = try GuestMemory.patched()
    let missing = try MissingPages(of: memory)
    let bytes = [UInt8](repeating: 3, count: 0x3000)
    #expect(
      failure { () throws(GuestMemoryError) in try missing.provide(bytes.span, at: GuestAddress(0x1000)) }
        == outside(0x1000, 0x3000))
    #expect(
      failure { () throws(GuestMemoryError) in try missing.provideZeros(range(0x100, 0x1000)) }
        == .unaligned(GuestAddress(0x100), multipleOf: 4096))
    #expect(try missing.provide(bytes.span, at: GuestAddress(0)) == 0x3000)
    #expect(try memory.readBytes(0x3000, at: GuestAddress(0)) == bytes)
  }

  @Test("with the end nobody waits any more, and what was not provided reads as zeros")
  func end() throws {
    let memory = try Self.memory()
    let missing = try MissingPages(of: memory)
    let sum = Atomic(0)
    let readers = try ThreadGroup(2) { (index) in
      let start: UInt64 = index == 0 ? 0 : 1 << 32
      for page in 0..<64 as Range<UInt64> {
        guard let byte = try? memory.read(UInt8.self, at: GuestAddress(start + page * 4096)) else { continue }
        sum.add(Int(byte) + 1, ordering: .relaxed)
      }
    }
    // Both wait by now, or will not have to.
    var faults: Set<GuestRange> = []
    while faults.count < 2 { try missing.takeFaults { faults.insert($0) } }
    #expect(faults == [range(0, 4096), range(1 << 32, 4096)])
    missing.stop()
    readers.join()
    #expect(sum.load(ordering: .relaxed) == 128)
    #expect(throws: GuestMemoryError.self) { try missing.provideZeros(range(0, 4096)) }
    let error = failure { () throws(GuestMemoryError) in
      let first = try MissingPages(of: memory)
      defer { first.stop() }
      _ = try MissingPages(of: memory)
    }
    #expect(error == .system(LinuxError(call: "ioctl(UFFDIO_REGISTER)", number: 16)))
  }
}

extension MissingPages {
  fileprivate func takeFaultsExpectingNone() {
    #expect(failure { () throws(GuestMemoryError) in try takeFaults { Issue.record("\($0) is missed") } } == nil)
  }
}

/// Provides what is missed, and pages that nobody has asked for yet.
private final class PageServer: Sendable {
  private let missing: MissingPages
  private let ending: Eventfd
  private let served = Mutex<Set<UInt64>>([])
  private let error = Mutex<GuestMemoryError?>(nil)

  init(_ missing: MissingPages) throws {
    self.missing = missing
    ending = try Eventfd()
  }

  var failure: GuestMemoryError? { error.withLock { $0 } }
  var servedCount: Int { served.withLock { $0.count } }

  func stop() { ending.signal() }

  func run() {
    do {
      let loop = try EventLoop()
      try loop.watch(ending.descriptor.rawValue) { [unowned loop] in loop.stop() }
      try loop.watch(missing.descriptor) { [unowned self] in serve() }
      try loop.run()
    } catch {
      missing.stop()
    }
  }

  private func serve() {
    do throws(GuestMemoryError) {
      var faults: [GuestRange] = []
      try missing.takeFaults { faults.append($0) }
      for fault in faults {
        let page = fault.start.rawValue
        // The neighbour is pushed too, which others may have been given already.
        for page in [page, page ^ 4096] {
          let content = MissingPagesTests.content(of: page)
          if try missing.provide(content.span, at: GuestAddress(page)) > 0 { served.withLock { _ = $0.insert(page) } }
        }
      }
    } catch {
      self.error.withLock { $0 = error }
      missing.stop()
    }
  }
}
