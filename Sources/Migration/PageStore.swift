import GuestRAM
import LinuxIO
import Synchronization

/// How a destination puts what comes into memory that nobody has touched yet, which costs more than all else.
///
/// What fills a huge page is received in it, and other threads get it ahead if there is one connection. Of the rest the best
/// is `FreshPages`: data comes into a buffer that stays in the processor's cache, is checked there, and only then goes to its
/// place, which other threads see to if there is one connection. Elsewhere it is received in place, and threads get the
/// memory for it ahead.
final class PageStore: Sendable {
  private let memory: GuestMemory
  private let fresh: FreshPages?
  private let populator: Populator
  private let threads: StoringThreads?
  private let isFirstPass = Atomic(true)

  /// - Parameters:
  ///   - threadCount: how many threads get memory, and how many store, beside the one that receives.
  ///   - mayBeHuge: whether pages may get memory together. Who takes a page out again that has come, to wait for it anew,
  ///     has to know that it is gone.
  init(_ memory: GuestMemory, threadCount: Int, mayBeHuge: Bool) {
    self.memory = memory
    let fresh = FreshPages(of: memory)
    if !mayBeHuge { fresh?.expectNoMore() }
    self.fresh = fresh
    populator = Populator(threadCount: threadCount) { (range) throws(GuestMemoryError) in
      guard let fresh else { return try memory.populate(range) }
      _ = fresh.takeHugePages(for: range)
      return fresh.expectsMore
    }
    threads = fresh.map { (fresh) in
      StoringThreads(threadCount: threadCount) { (pages, stage) throws(MigrationError) in
        try stage.forEachRun(of: pages) { (staged, start) throws(GuestMemoryError) in
          try fresh.store(staged, of: stage.memory, at: start)
        }
      }
    }
  }

  /// Where a thread that receives puts data first; nil where it goes into its place at once.
  func makeStage() throws(MigrationError) -> PageStage? {
    fresh == nil ? nil : try PageStage()
  }

  /// Says whose data is about to come.
  /// - Parameters:
  ///   - ranges: each in one region.
  ///   - isAhead: whether somebody else may get memory for them meanwhile.
  func expect(_ ranges: [GuestRange], isAhead: Bool) throws(MigrationError) {
    fresh?.expect(ranges)
    if isAhead, fresh?.expectsMore ?? true { try populator.add(ranges) }
  }

  /// Takes the data behind a frame of pages, of which nobody else receives any: it may get to its place later (`settle`).
  func receive<Link: Channel & ~Copyable>(
    alone frame: Frame, _ pages: PageFrame, from receiver: inout FrameReceiver<Link>, through stage: PageStage?
  ) throws(MigrationError) {
    guard let threads, isFirstPass.load(ordering: .relaxed), !hasHugePages(pages) else {
      return try receive(frame, pages, from: &receiver, through: stage)
    }
    let stage = try threads.takeStage()
    try take(frame, pages, from: &receiver, into: stage)
    threads.add(pages, from: stage)
  }

  /// Takes the data behind a frame of pages.
  func receive<Link: Channel & ~Copyable>(
    _ frame: Frame, _ pages: PageFrame, from receiver: inout FrameReceiver<Link>, through stage: PageStage?
  ) throws(MigrationError) {
    guard let fresh, let stage, !hasHugePages(pages) else {
      try receiver.receivePages(pages.buffers, of: memory)
      return try check(frame, pages, pages.payload(memory))
    }
    try take(frame, pages, from: &receiver, into: stage)
    try stage.forEachRun(of: pages) { (staged, start) throws(GuestMemoryError) in
      if isFirstPass.load(ordering: .relaxed) {
        try fresh.store(staged, of: stage.memory, at: start)
      } else {
        try memory.makePresent(GuestRange(start: start, byteCount: staged.byteCount))
        try stage.memory.copy(staged, to: memory, at: start)
      }
    }
  }

  /// Whether all pages have memory that costs nothing more, so that their data may come in place.
  private func hasHugePages(_ pages: PageFrame) -> Bool {
    guard let fresh else { return false }
    return pages.runs.allSatisfy { fresh.takeHugePages(for: $0.range) }
  }

  private func take<Link: Channel & ~Copyable>(
    _ frame: Frame, _ pages: PageFrame, from receiver: inout FrameReceiver<Link>, into stage: PageStage
  ) throws(MigrationError) {
    let buffer = GuestBuffer(address: GuestAddress(0), byteCount: pages.byteCount)
    try receiver.receivePages([buffer], of: stage.memory)
    try check(frame, pages, pages.payload(stage.memory, staged: buffer.address))
  }

  private func check(_ frame: Frame, _ pages: PageFrame, _ payload: [UInt8]) throws(MigrationError) {
    guard payload == frame.payload else {
      throw .damagedPages(GuestRange(start: pages.runs[0].start, byteCount: UInt64(pages.byteCount)))
    }
  }

  /// Returns once all that has been received is in its place.
  func settle() throws(MigrationError) { try threads?.settle() }

  /// The first pass is over: from now on most of what comes has its memory. Nobody may be receiving,
  /// and what has not got to its place is lost.
  func endFirstPass() {
    // It is behind the data, and must not give memory to a page that is zero by now.
    populator.finish()
    fresh?.expectNoMore()
    threads?.finish()
    isFirstPass.store(false, ordering: .relaxed)
  }

  /// The memory's page faults are anybody's again. It takes some milliseconds for each GiB. Nobody may be receiving.
  func stop() {
    endFirstPass()
    fresh?.stop()
  }
}
