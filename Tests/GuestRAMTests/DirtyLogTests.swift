import Glibc
import GuestRAM
import LinuxIO
import Support
import Synchronization
import Testing

@Suite("GuestRAM: the dirty log")
struct DirtyLogTests {
  @Test("vhost-user: page p is bit p mod 8 of byte p / 8, at the offset that the peer named")
  func layout() throws {
    let file = try MemoryFile.create(name: "log", byteCount: 0x1000)
    let log = try DirtyLog(file: file, at: 0x10, byteCount: 0x20)
    let peer = try GuestMemory(regions: [MemoryRegion(file: file, byteCount: 0x1000, start: GuestAddress(0))])
    #expect(log.pageCount == 256)
    for page in 0..<256 as Range<UInt64> {
      log.mark(range(page * 4096 + page % 4096, 1))
      var expected = [UInt8](repeating: 0, count: 0x1000)
      expected[0x10 + Int(page / 8)] = 1 << (page % 8)
      #expect(try peer.readBytes(0x1000, at: GuestAddress(0)) == expected)
      #expect(log.isMarked(page: page))
      #expect(log.takeMarks() == [page])
      #expect(log.isMarked(page: page) == false)
    }
  }

  @Test("a range marks every page that it touches, and an empty one none")
  func ranges() throws {
    let log = try DirtyLog(coveringUpTo: GuestAddress(1 << 20))
    let cases: [(GuestRange, [UInt64])] = [
      (range(0, 1), [0]), (range(4095, 1), [0]), (range(4095, 2), [0, 1]), (range(4096, 4096), [1]),
      (range(4096, 4097), [1, 2]), (range(1, 3 * 4096), [0, 1, 2, 3]), (range(100, 0), []),
    ]
    for (range, pages) in cases {
      log.mark(range)
      #expect(log.takeMarks() == pages)
    }
    log.mark(range(0, 1 << 20))
    #expect(log.takeMarks() == Array(0..<256))
    #expect(log.missedCount == 0)
  }

  @Test("vhost-user: pages beyond the log's end are counted and change nothing")
  func missed() throws {
    let log = try DirtyLog(coveringUpTo: GuestAddress(10 * 4096 + 1))
    #expect(log.pageCount == 11)
    log.mark(range(11 * 4096, 1))
    #expect(log.missedCount == 1)
    log.mark(range(9 * 4096, 4 * 4096))
    #expect(log.missedCount == 3)
    log.mark(range(.max, 1))
    #expect(log.missedCount == 4)
    log.mark(range(.max - 4096, .max))
    #expect(log.missedCount == 6)
    #expect(log.takeMarks() == [9, 10])
    #expect(log.isMarked(page: 11) == false)
    #expect(log.isMarked(page: .max) == false)
  }

  @Test("a log that its file is too short for is refused")
  func fileTooShort() throws {
    let file = try MemoryFile.create(name: "log", byteCount: 0x1000)
    for (offset, byteCount) in [(0, 0x1001), (0x1000, 1), (0xFFF, 2), (.max, 1), (1, .max), (0, 0)]
      as [(UInt64, UInt64)]
    {
      let (end, overflow) = offset.addingReportingOverflow(byteCount)
      let error = failure { () throws(GuestMemoryError) in
        _ = try DirtyLog(file: file, at: offset, byteCount: byteCount)
      }
      #expect(error == .fileTooShort(needed: overflow ? .max : end, is: 0x1000))
    }
    let last = try DirtyLog(file: file, at: 0xFFF, byteCount: 1)
    last.mark(range(7 * 4096, 1))
    #expect(last.takeMarks() == [7])
  }

  @Test("a log of more memory than can be mapped is refused, and of none is empty")
  func extremes() throws {
    for end in [UInt64.max, 1 << 63] {
      let error = failure { () throws(GuestMemoryError) in _ = try DirtyLog(coveringUpTo: GuestAddress(end)) }
      #expect(error == .system(LinuxError(call: "mmap", number: 12)))
    }
    let file = try MemoryFile.create(name: "log", byteCount: .max)
    let error = failure { () throws(GuestMemoryError) in
      _ = try DirtyLog(file: file, at: 1 << 61, byteCount: 1 << 62)
    }
    #expect(error == .system(LinuxError(call: "mmap", number: 12)))
    let empty = try DirtyLog(coveringUpTo: GuestAddress(0))
    empty.mark(range(0, 1))
    #expect(empty.takeMarks() == [])
    #expect(empty.missedCount == 1)
  }

  @Test("every way to store through the memory leaves a mark, and no way to read does")
  func allStores() throws {
    let log = try DirtyLog(coveringUpTo: GuestAddress(0x11000))
    let memory = try GuestMemory.patched(dirtyLog: log)
    try memory.write(UInt8(1), at: GuestAddress(0x1FFF))
    #expect(log.takeMarks() == [1])
    try memory.write(UInt64(1), at: GuestAddress(0x1FFF))
    #expect(log.takeMarks() == [1, 2])
    try memory.write(bytes: [UInt8](repeating: 9, count: 0x1002), at: GuestAddress(0xFFF))
    #expect(log.takeMarks() == [0, 1, 2])
    try memory.publish(7, at: GuestAddress(0x10FFE))
    #expect(log.takeMarks() == [0x10])
    let window = try MemoryWindow(of: memory, at: GuestAddress(0x2000), byteCount: 0x1000, alignment: 4)
    window.store(UInt32(5), at: 0xFFC)
    #expect(log.takeMarks() == [2])
    window.publish(5, at: 0)
    #expect(log.takeMarks() == [2])
    try window.write(UInt16(5), at: GuestAddress(0xFFF))
    #expect(log.takeMarks() == [0, 1])
    _ = try memory.read(UInt64.self, at: GuestAddress(0))
    _ = try memory.readBytes(0x3000, at: GuestAddress(0))
    _ = try memory.acquire(at: GuestAddress(0))
    _ = window.load(UInt32.self, at: 0)
    _ = try memory.digest(range(0, 0x1000))
    _ = try memory.residentRanges()
    #expect(failure { () throws(GuestMemoryError) in try memory.write(UInt64(0), at: GuestAddress(0x2FFC)) } != nil)
    #expect(log.takeMarks() == [])
  }

  @Test("the same memory with another log, or with none, marks there or nowhere")
  func otherLog() throws {
    let log = try DirtyLog(coveringUpTo: GuestAddress(0x11000))
    let memory = try GuestMemory.patched()
    let logged = try memory.with(dirtyLog: log)
    try logged.write(UInt8(7), at: GuestAddress(0x2000))
    #expect(try memory.read(UInt8.self, at: GuestAddress(0x2000)) == 7)
    #expect(log.takeMarks() == [2])
    try memory.write(UInt8(7), at: GuestAddress(0x2000))
    try logged.with(dirtyLog: nil).write(UInt8(7), at: GuestAddress(0x2000))
    #expect(log.takeMarks() == [])
  }

  @Test("vhost-user: each mark is collected once, though others in its byte are set and collected at the same time")
  func sharedByte() throws {
    let pageCount = 16
    let log = try DirtyLog(coveringUpTo: GuestAddress(UInt64(pageCount) * 4096))
    let turns = Turns()
    let writer = try Thread(name: "writer") {
      for turn in 1...5000 {
        for page in 0..<UInt64(pageCount) { log.mark(range(page * 4096, 1)) }
        turns.marked.store(turn, ordering: .releasing)
        while turns.collected.load(ordering: .acquiring) < turn { sched_yield() }
      }
    }
    var counts = [Int](repeating: 0, count: pageCount)
    for turn in 1...5000 {
      var isMarked = false
      while !isMarked {
        // All of the turn's marks are there for the last collection, whatever came in the middle of earlier ones.
        isMarked = turns.marked.load(ordering: .acquiring) == turn
        log.collect { counts[Int($0)] += 1 }
      }
      turns.collected.store(turn, ordering: .releasing)
    }
    writer.join()
    #expect(counts == [Int](repeating: 5000, count: pageCount))
  }

  private final class Turns: Sendable {
    let marked = Atomic<Int>(0)
    let collected = Atomic<Int>(0)
  }

  @Test("threads that mark and collect at the same time: a mark is never seen before its data")
  func concurrent() throws {
    let log = try DirtyLog(coveringUpTo: GuestAddress(64 * 4096))
    let memory = try GuestMemory(byteCount: 64 * 4096).with(dirtyLog: log)
    let rounds: UInt64 = 2000
    let isDone = Flag()
    let writer = try Thread(name: "writer") {
      for round in 1...rounds {
        for page in 0..<64 as Range<UInt64> where !isDone.hasFailed {
          if failure({ () throws(GuestMemoryError) in try memory.write(round, at: GuestAddress(page * 4096)) }) != nil {
            isDone.failed.store(true, ordering: .relaxed)
          }
        }
      }
      isDone.value.store(true, ordering: .releasing)
    }
    var copies = [UInt64](repeating: 0, count: 64)
    var isLast = false
    while !isLast {
      isLast = isDone.value.load(ordering: .acquiring)
      for page in log.takeMarks() { copies[Int(page)] = try memory.read(UInt64.self, at: GuestAddress(page * 4096)) }
    }
    writer.join()
    // A page whose last mark was lost, or came before its data, has an old number in the copy.
    #expect(copies == [UInt64](repeating: rounds, count: 64))
    #expect(log.takeMarks() == [])
    #expect(isDone.hasFailed == false)
  }

  private final class Flag: Sendable {
    let value = Atomic<Bool>(false)
    let failed = Atomic<Bool>(false)

    var hasFailed: Bool { failed.load(ordering: .relaxed) }
  }
}
