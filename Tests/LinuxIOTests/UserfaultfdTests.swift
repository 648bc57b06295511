import Synchronization
import Testing

@testable import LinuxIO

@Suite(
  "LinuxIO: page faults", .serialized,
  .enabled(if: Userfaultfd.isAvailable, "SKIPPED: this process may not have a userfaultfd that system calls wait for"))
struct UserfaultfdTests {
  static let page = 4096

  private static func mappings() throws -> [Mapping] {
    let file = try MemoryFile.create(name: "faults", byteCount: 16 * page)
    return [try Mapping(anonymous: 16 * page), try Mapping(of: file, byteCount: 16 * page)]
  }

  @Test("pages are copied in up to one that is there, which is told and left")
  func copy() throws {
    for mapping in try Self.mappings() {
      mapping.store(9, at: 2 * Self.page)
      let faults = try Userfaultfd(.missingInFiles)
      try faults.register(mapping, at: 0, byteCount: mapping.byteCount)
      let bytes = [UInt8](repeating: 5, count: 4 * Self.page)
      #expect(try faults.copy(bytes.span, to: mapping, at: 0) == 2 * Self.page)
      #expect(try faults.copy(bytes.span, to: mapping, at: 2 * Self.page) == 0)
      #expect(try faults.copy(bytes.span, to: mapping, at: 3 * Self.page) == 4 * Self.page)
      #expect(try faults.zero(mapping, at: 6 * Self.page, byteCount: 2 * Self.page) == 0)
      #expect(try faults.zero(mapping, at: 7 * Self.page, byteCount: 2 * Self.page) == 2 * Self.page)
      #expect((0..<9).map { mapping.load(at: $0 * Self.page) } == [5, 5, 9, 5, 5, 5, 5, 0, 0])
      let unaligned = failure { () throws(LinuxError) in
        _ = try faults.zero(mapping, at: 9 * Self.page + 1, byteCount: Self.page)
      }
      #expect(unaligned == LinuxError(call: "ioctl(UFFDIO_ZEROPAGE)", number: 22))
    }
  }

  @Test("who touches a missing page waits, and the fault says which and what for")
  func fault() throws {
    for mapping in try Self.mappings() {
      let faults = try Userfaultfd(.missingInFiles)
      try faults.register(mapping, at: 0, byteCount: mapping.byteCount)
      let thread = try Thread(name: "writer") { mapping.store(1, at: 3 * Self.page + 5) }
      let fault = try #require(try faults.nextFault())
      #expect(fault.offset(in: mapping) == 3 * Self.page)
      #expect(fault.isWrite && !fault.isProtected && !fault.isUnmapped)
      let bytes = [UInt8](repeating: 7, count: Self.page)
      #expect(try faults.copy(bytes.span, to: mapping, at: 3 * Self.page) == Self.page)
      thread.join()
      #expect((4...6).map { mapping.load(at: 3 * Self.page + $0) } == [7, 1, 7])
    }
  }

  @Test("what another mapping of a file has stored is mapped when somebody says so")
  func unmapped() throws {
    let file = try MemoryFile.create(name: "faults", byteCount: 4 * Self.page)
    let mapping = try Mapping(of: file, byteCount: 4 * Self.page)
    let other = try Mapping(of: file, byteCount: 4 * Self.page)
    let faults = try Userfaultfd(.unmappedInFiles)
    try faults.register(mapping, at: 0, byteCount: mapping.byteCount, for: .unmapped)
    other.store(4, at: Self.page)
    let found = Atomic(0)
    try withThreads(2) { (index) in
      if index == 0 { return found.store(Int(mapping.load(at: Self.page)), ordering: .releasing) }
      guard let fault = try? faults.nextFault(), fault.isUnmapped, let offset = fault.offset(in: mapping) else {
        return
      }
      _ = try? faults.mapUnmapped(mapping, at: offset, byteCount: Self.page)
    }
    #expect(found.load(ordering: .acquiring) == 4)
  }

  @Test("a write to a protected page waits until it may pass", .enabled(if: Userfaultfd.isAvailable(.protection)))
  func protection() throws {
    for mapping in try Self.mappings() {
      let faults = try Userfaultfd(.protection)
      try faults.register(mapping, at: 0, byteCount: mapping.byteCount, for: .writes)
      try faults.setProtected(true, mapping, at: 0, byteCount: mapping.byteCount)
      let thread = try Thread(name: "writer") { mapping.store(1, at: 2 * Self.page) }
      let fault = try #require(try faults.nextFault())
      #expect(fault.offset(in: mapping) == 2 * Self.page && fault.isWrite && fault.isProtected)
      try faults.setProtected(false, mapping, at: 2 * Self.page, byteCount: Self.page)
      thread.join()
      #expect(mapping.load(at: 2 * Self.page) == 1)
      let another = try Userfaultfd(.protection)
      let error = failure { () throws(LinuxError) in
        try another.register(mapping, at: 0, byteCount: Self.page, for: .writes)
      }
      #expect(error == LinuxError(call: "ioctl(UFFDIO_REGISTER)", number: 16))
      try faults.unregister(mapping, at: 0, byteCount: mapping.byteCount)
      mapping.store(2, at: 5 * Self.page)
      #expect(mapping.load(at: 5 * Self.page) == 2)
    }
  }

  @Test("who waits for a page goes on when faults are reported no more")
  func unregister() throws {
    for mapping in try Self.mappings() {
      let faults = try Userfaultfd(.missingInFiles)
      try faults.register(mapping, at: 0, byteCount: mapping.byteCount)
      let thread = try Thread(name: "writer") { mapping.store(1, at: Self.page) }
      #expect(try faults.nextFault()?.offset(in: mapping) == Self.page)
      try faults.unregister(mapping, at: 0, byteCount: mapping.byteCount)
      thread.join()
      #expect(mapping.load(at: Self.page) == 1)
    }
  }
}

@Suite(
  "LinuxIO: page map",
  .enabled(
    if: Userfaultfd.isAvailable([.protection, .silentWrites], isForSystemCalls: false),
    "SKIPPED: the kernel (before Linux 6.7) does not tell which pages were written"))
struct PageMapTests {
  static let page = 4096

  @Test("more runs than a call finds are all found, once, and looking alone takes none")
  func runs() throws {
    let file = try MemoryFile.create(name: "pages", byteCount: 5000 * Self.page)
    for mapping in [try Mapping(anonymous: 5000 * Self.page), try Mapping(of: file, byteCount: 5000 * Self.page)] {
      let all = 0..<mapping.byteCount
      let faults = try Userfaultfd([.protection, .silentWrites], isForSystemCalls: false)
      try faults.register(mapping, at: 0, byteCount: mapping.byteCount, for: .writes)
      let map = try PageMap()
      try map.protect(mapping, all)
      let written = stride(from: 0, to: 5000, by: 2).map { $0 * Self.page }
      for offset in written { mapping.store(1, at: offset) }
      let expected = written.map { $0..<$0 + Self.page }
      #expect(try map.written(in: mapping, all, protecting: false) == expected)
      #expect(try map.written(in: mapping, 3 * Self.page..<5 * Self.page, protecting: true) == [expected[2]])
      #expect(try map.written(in: mapping, all, protecting: true) == expected.filter { $0 != expected[2] })
      #expect(try map.written(in: mapping, all, protecting: true) == [])
    }
  }

  @Test("of protected memory of this process alone just the pages are there that were touched")
  func present() throws {
    let mapping = try Mapping(anonymous: 64 * Self.page)
    let faults = try Userfaultfd([.protection, .silentWrites], isForSystemCalls: false)
    try faults.register(mapping, at: 0, byteCount: mapping.byteCount, for: .writes)
    for page in [3, 4, 9] { mapping.store(1, at: page * Self.page) }
    let map = try PageMap()
    try map.protect(mapping, 0..<mapping.byteCount)
    let swaps = try FileDescriptor.open("/proc/swaps").readBytes(upTo: 4096)
    // Where there is swap the kernel does not tell a protected page from one that is there.
    let first = swaps.filter { $0 == 10 }.count > 1 ? 0..<mapping.byteCount : 3 * Self.page..<5 * Self.page
    #expect(try map.nextPresent(in: mapping, from: 0, before: mapping.byteCount) == first)
  }

  @Test("a protected page that the kernel is moving about looks as if it were not there, so that has to be asked")
  func moved() {
    let (present, swap, protected) = (1 << 63, 1 << 62, 1 << 57) as (UInt64, UInt64, UInt64)
    #expect(PageMap.mayBeMoved(swap | protected))
    for entry in [0, present, present | protected, swap, protected] {
      #expect(!PageMap.mayBeMoved(entry))
    }
    for entry in [swap | protected, 0, protected] { #expect(!PageMap.isPresent(entry, swap: false)) }
    for entry in [swap, swap | protected | present, present] { #expect(PageMap.isPresent(entry, swap: false)) }
    #expect(PageMap.isPresent(swap | protected, swap: true))
    var entries = [swap | protected, swap | protected, 0, present]
    PageMap.tellMovedPages(&entries, inMemory: [1, 0, 1])
    #expect(entries.map { PageMap.isPresent($0, swap: false) } == [true, false, false, true])
  }

  @Test("memory that nobody has registered is refused")
  func unregistered() throws {
    let mapping = try Mapping(anonymous: Self.page)
    let map = try PageMap()
    let error = failure { () throws(LinuxError) in try map.protect(mapping, 0..<Self.page) }
    #expect(error == LinuxError(call: "ioctl(PAGEMAP_SCAN)", number: 1))
  }

  @Test("discards are told to the watcher, with their place")
  func discards() throws {
    let mapping = try Mapping(anonymous: 4 * Self.page)
    let told = Told()
    mapping.watchDiscards { (bytes) in told.ranges.withLock { $0.append(bytes) } }
    try mapping.discard(at: Self.page, byteCount: 2 * Self.page)
    mapping.watchDiscards(nil)
    try mapping.discard(at: 0, byteCount: Self.page)
    #expect(told.ranges.withLock { $0 } == [Self.page..<3 * Self.page])
  }

  private final class Told: Sendable {
    let ranges = Mutex<[Range<Int>]>([])
  }
}

extension PageMap {
  fileprivate borrowing func written(
    in mapping: Mapping, _ bytes: Range<Int>, protecting: Bool
  ) throws(LinuxError) -> [Range<Int>] {
    var runs: [Range<Int>] = []
    try forEachWritten(in: mapping, bytes, protecting: protecting) { runs.append($0) }
    return runs
  }
}

extension Userfaultfd {
  /// Waits for a fault.
  fileprivate borrowing func nextFault() throws(LinuxError) -> Fault? {
    var faults: [Fault] = []
    while faults.isEmpty { try takeFaults { faults.append($0) } }
    return faults.first
  }
}

extension Mapping {
  fileprivate func store(_ byte: UInt8, at offset: Int) {
    unsafe (base + offset).storeBytes(of: byte, as: UInt8.self)
  }

  fileprivate func load(at offset: Int) -> UInt8 {
    unsafe base.load(fromByteOffset: offset, as: UInt8.self)
  }
}
