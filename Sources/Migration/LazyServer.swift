import GuestRAM
import LinuxIO

/// Reads missed pages from a file, on a thread of its own.
final class LazyServer: Sendable {
  private struct Desk {
    var index: SavedIndex
    var report = LazyMemory.Report()
    /// The stretches that could not be read, by the place of their data.
    var failures: [UInt64: MigrationError] = [:]
    var first: MigrationError?
    /// The next page to be read while nobody waits for one.
    var next = 0
    var isWhole = false
    var isOver = false
  }

  private let memory: GuestMemory
  private let file: SavedFile
  private let missing: MissingPages
  private let stage: PageStage
  private let failed: @Sendable (MigrationError) -> Void
  private let start = MonotonicClock.now
  private let desk: Monitor<Desk>
  private let forOwner = WakeUp()
  private let news: Eventfd

  init(
    _ memory: GuestMemory, _ index: SavedIndex, _ file: SavedFile,
    _ failed: @escaping @Sendable (MigrationError) -> Void
  ) throws(MigrationError) {
    self.memory = memory
    self.file = file
    self.failed = failed
    desk = Monitor(Desk(index: index))
    stage = try PageStage()
    news = try connecting { () throws(LinuxError) in try Eventfd() }
    missing = try inGuestMemory { () throws(GuestMemoryError) in try MissingPages(of: memory) }
    // A page that goes is zero from then on, whatever the file has. What is being provided is there before it goes.
    missing.announceDiscards { [weak self] (range) in self?.desk.withLock { $0.index.clear(range) } }
  }

  // MARK: - The owner

  var remainingByteCount: UInt64 { desk.withLock { UInt64($0.index.count) * GuestPage.byteCount } }

  func waitUntilWhole(within limit: Duration) throws(MigrationError) -> LazyMemory.Report? {
    let end = MonotonicClock.moment(after: limit)
    return try desk.wait(on: forOwner, until: end) { (desk) throws(MigrationError) in
      if let failure = desk.first { throw failure }
      if desk.isWhole { return desk.report }
      if desk.isOver { throw .cancelled }
      return nil
    }
  }

  func retry() {
    desk.withLock { (desk) in
      desk.failures = [:]
      desk.first = nil
      desk.next = 0
    }
    news.signal()
  }

  func requestEnd() {
    desk.withLock { $0.isOver = true }
    news.signal()
  }

  /// Lets everybody go on who waits for a page.
  func end() {
    missing.stop()
    forOwner.wakeAll()
  }

  // MARK: - The thread

  func run() {
    do throws(LinuxError) {
      var failure: MigrationError?
      let loop = try EventLoop()
      try loop.watch(news.descriptor.rawValue) { [unowned self] in _ = news.drain() }
      try loop.watch(missing.descriptor) { [unowned self] in
        do throws(MigrationError) { try answerFaults() } catch { failure = error }
      }
      while failure == nil, !isFinished() {
        // Whoever waits goes first.
        let isIdle = try loop.runOnce(within: hasWork ? .zero : nil) == 0
        if isIdle, failure == nil {
          do throws(MigrationError) { try readNext() } catch { failure = error }
        }
      }
      if let failure { tell(failure) }
    } catch {
      tell(MigrationError(error))
    }
    forOwner.wakeAll()
  }

  /// The thread itself cannot go on: pages stay missing until the owner stops.
  private func tell(_ failure: MigrationError) {
    desk.withLock { $0.first = $0.first ?? failure }
    forOwner.wakeAll()
    failed(failure)
  }

  private var hasWork: Bool { desk.withLock { $0.next < $0.index.pageCount } }

  private func isFinished() -> Bool {
    let (isOver, isWhole) = desk.withLock { (desk) in (desk.isOver, desk.index.count == 0) }
    guard isWhole, !isOver else { return isOver }
    // Before anybody hears of it: memory is like any other from then on.
    missing.stop()
    desk.withLock { (desk) in
      desk.isWhole = true
      desk.report.seconds = MigrationReport.seconds(since: start)
    }
    return true
  }

  private func answerFaults() throws(MigrationError) {
    var pages: [GuestRange] = []
    try inGuestMemory { () throws(GuestMemoryError) in try missing.takeFaults { pages.append($0) } }
    for page in pages {
      let frame = desk.withLock { (desk) in
        desk.report.faultCount += 1
        return desk.index.page(at: page.start).flatMap { desk.index.frame(of: $0) }
      }
      if let frame { try provide(frame) }
      // What the file does not have is zero; what has come meanwhile stays, and is looked at again.
      try desk.withLock { (desk) throws(MigrationError) in
        guard let number = desk.index.page(at: page.start), desk.index.frame(of: number) == nil else { return }
        try inGuestMemory { () throws(GuestMemoryError) in _ = try missing.provideZeros(page) }
      }
    }
  }

  /// Reads the next frame that still has pages to give and that has not failed.
  private func readNext() throws(MigrationError) {
    let frame = desk.withLock { (desk) -> SavedIndex.Frame? in
      guard let page = desk.index.nextPage(from: desk.next), let frame = desk.index.frame(of: page) else {
        desk.next = desk.index.pageCount
        return nil
      }
      // The rest of a frame is given with its first page, or fails with it.
      desk.next = desk.failures[frame.offset] == nil ? page : page + 1
      return frame
    }
    if let frame { try provide(frame) }
  }

  /// Reads a frame, checks it, and gives its pages to the guest; says so if that cannot be done.
  private func provide(_ frame: SavedIndex.Frame) throws(MigrationError) {
    guard desk.withLock({ $0.failures[frame.offset] == nil }) else { return }
    let bytes: [UInt8]
    do throws(MigrationError) {
      bytes = try read(frame)
    } catch {
      desk.withLock { (desk) in
        desk.failures[frame.offset] = error
        desk.first = desk.first ?? error
      }
      forOwner.wakeAll()
      return failed(error)
    }
    try give(bytes, of: frame)
  }

  /// Under the lock, so that no page is discarded between the look into the index and its coming.
  private func give(_ bytes: [UInt8], of frame: SavedIndex.Frame) throws(MigrationError) {
    try desk.withLock { (desk) throws(MigrationError) in
      var given: [Range<Int>] = []
      try desk.index.forEachStretch(of: frame) { (page, count, position) throws(MigrationError) in
        let start = desk.index.address(of: page)
        let end = position + count * Int(GuestPage.byteCount)
        try inGuestMemory { () throws(GuestMemoryError) in
          _ = try missing.provide(bytes.span.extracting(position..<end), at: start)
        }
        given.append(page..<page + count)
      }
      for pages in given {
        desk.index.clear(pages)
        desk.report.pageCount += UInt64(pages.count)
      }
    }
  }

  /// The data of a frame, as it was saved.
  private func read(_ frame: SavedIndex.Frame) throws(MigrationError) -> [UInt8] {
    let start = GuestAddress(frame.start)
    let damage = MigrationError.damagedPages(GuestRange(start: start, byteCount: UInt64(frame.byteCount)))
    let bytes: [UInt8]?
    do throws(LinuxError) {
      bytes = try file.file.readBytes(exactly: Int(frame.byteCount), at: Int(frame.offset))
    } catch {
      throw error.isPeerGone ? damage : .system(error)
    }
    guard let bytes else { throw damage }
    let stage = stage.memory
    try inGuestMemory { () throws(GuestMemoryError) in try stage.write(bytes: bytes, at: GuestAddress(0)) }
    var pages = PageFrame()
    _ = pages.append(
      PageRun(start: start, pageCount: frame.byteCount / UInt32(GuestPage.byteCount), isZero: false))
    var writer = WireWriter()
    writer.append(frame.start)
    writer.append(frame.digest)
    guard try pages.payload(stage, staged: GuestAddress(0)) == writer.bytes else { throw damage }
    return bytes
  }
}
