import GuestRAM
import LinuxIO
import Synchronization
import Testing

@testable import Migration

@Suite("Migration: threads that store") struct StoringThreadsTests {
  /// Where the pages of frames have gone to.
  private final class Stored: Sendable {
    let starts = Mutex<[GuestAddress]>([])

    func note(_ frame: PageFrame) { starts.withLock { $0.append(frame.runs[0].start) } }
    var pages: [UInt64] { starts.withLock { $0.map(\.rawValue) }.sorted() }
  }

  private func frame(_ page: UInt64) -> PageFrame {
    var frame = PageFrame()
    _ = frame.append(PageRun(start: GuestAddress(page), pageCount: 1, isZero: false))
    return frame
  }

  @Test("all that was added is stored once, whoever does it, and from where it was received", arguments: [0, 1, 3])
  func all(threadCount: Int) throws {
    let stored = Stored()
    let threads = StoringThreads(threadCount: threadCount) { (frame, stage) in
      let mark = try? stage.memory.read(UInt64.self, at: GuestAddress(0))
      if mark == frame.runs[0].start.rawValue { stored.note(frame) }
    }
    for round in 1...3 as ClosedRange<UInt64> {
      for page in 0..<100 as Range<UInt64> {
        let stage = try threads.takeStage()
        try stage.memory.write(round << 20 | page, at: GuestAddress(0))
        threads.add(frame(round << 20 | page), from: stage)
      }
      try threads.settle()
      #expect(stored.pages == (1...round).flatMap { (round) in (0..<100).map { round << 20 | $0 } })
    }
    threads.finish()
  }

  @Test("what goes wrong is told, and nothing more is taken", arguments: [0, 2])
  func failure(threadCount: Int) throws {
    let threads = StoringThreads(threadCount: threadCount) { (frame, _) throws(MigrationError) in
      if frame.runs[0].start.rawValue == 7 { throw .unsuitableMemory }
    }
    defer { threads.finish() }
    for page in 7..<9 as Range<UInt64> {
      // It may be told already.
      guard let stage = try? threads.takeStage() else { break }
      threads.add(frame(page), from: stage)
    }
    #expect(throws: MigrationError.unsuitableMemory) { try threads.settle() }
    #expect(throws: MigrationError.unsuitableMemory) { _ = try threads.takeStage() }
  }

  @Test("after the end nobody stores anything any more", arguments: [1, 3])
  func end(threadCount: Int) throws {
    for _ in 0..<50 {
      let stored = Stored()
      let threads = StoringThreads(threadCount: threadCount) { (frame, _) in stored.note(frame) }
      for page in 0..<4 as Range<UInt64> { try threads.add(frame(page), from: threads.takeStage()) }
      threads.finish()
      let count = stored.pages.count
      #expect(count <= 4)
      for _ in 0..<20 { #expect(stored.pages.count == count) }
    }
  }
}
