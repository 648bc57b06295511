import GuestRAM

/// Runs of planned pages whose data goes in one frame, in the order in which they were planned.
struct PageFrame {
  private static let mostRuns = 256

  private(set) var runs: [PageRun] = []
  private(set) var byteCount = 0

  var buffers: [GuestBuffer] { runs.map(\.buffer) }

  /// Adds a run, or says that the frame is full.
  mutating func append(_ run: PageRun) -> Bool {
    guard runs.count < Self.mostRuns, byteCount + Int(run.byteCount) <= Frame.mostPageData else { return false }
    runs.append(run)
    byteCount += Int(run.byteCount)
    return true
  }

  /// The payload before the data: the address of the first page, and the digest of all pages' digests.
  /// - Parameters:
  ///   - memory: what holds the pages' data.
  ///   - stage: where it holds them, one after another; nil for their own places.
  ///   - sent: told what goes.
  func payload(
    _ memory: GuestMemory, staged stage: GuestAddress? = nil, noting sent: SentPages? = nil
  ) throws(MigrationError) -> [UInt8] {
    guard let start = runs.first?.start else { return [] }
    var digests: [UInt64] = []
    digests.reserveCapacity(byteCount / Int(GuestPage.byteCount))
    let ranges = stage.map { [GuestRange(start: $0, byteCount: UInt64(byteCount))] } ?? runs.map(\.range)
    for range in ranges {
      try inGuestMemory { () throws(GuestMemoryError) in try memory.appendPageDigests(of: range, to: &digests) }
    }
    sent?.note(digests, of: runs)
    var list = WireWriter()
    for digest in digests { list.append(digest) }
    var writer = WireWriter()
    writer.append(start.rawValue)
    writer.append(GuestMemory.digest(of: list.bytes))
    return writer.bytes
  }
}

/// The pages that are planned and whose data has not come yet.
struct PlannedPages {
  /// Two plans: one whose data is on its way, and one ahead of it.
  private static let mostRuns = 2 * PageRun.mostInPlan

  private var runs: [PageRun] = []
  private var next = 0
  private var cursor: PageCursor

  init(_ regions: [GuestRange]) {
    cursor = PageCursor(regions)
  }

  var isEmpty: Bool { next == runs.count }
  /// Whether nothing has been planned yet.
  var isUntouched: Bool { runs.isEmpty && cursor.free == 0 }

  /// Lets the plans rise from the start again.
  mutating func beginPass(_ regions: [GuestRange]) throws(MigrationError) {
    guard isEmpty else { throw .unexpectedFrame(.pass) }
    cursor = PageCursor(regions)
  }

  /// Adds a plan, and returns the ranges that will get data.
  mutating func add(_ plan: [PageRun]) throws(MigrationError) -> [GuestRange] {
    for run in plan {
      _ = try cursor.take(run.start, pageCount: UInt64(run.pageCount))
      guard run.isZero || run.pageCount <= PageRun.mostDataPages else { throw .malformedFrame(.plan) }
    }
    let data = plan.filter { !$0.isZero }
    runs.removeFirst(next)
    next = 0
    guard runs.count + data.count <= Self.mostRuns else { throw .tooManyPlanned(most: Self.mostRuns) }
    runs += data
    return data.map(\.range)
  }

  /// The planned runs that a frame of pages has the data of.
  mutating func take(_ frame: Frame) throws(MigrationError) -> PageFrame {
    var reader = WireReader(frame.payload)
    guard let address: UInt64 = reader.integer(), frame.dataByteCount > 0 else { throw .malformedFrame(.pages) }
    return try take(GuestAddress(address), byteCount: frame.dataByteCount)
  }

  /// The planned runs from an address on that have so many bytes together.
  mutating func take(_ start: GuestAddress, byteCount: Int) throws(MigrationError) -> PageFrame {
    guard !isEmpty, runs[next].start == start else { throw .unplannedPages(start) }
    var pages = PageFrame()
    while pages.byteCount < byteCount, next < runs.count, pages.append(runs[next]) { next += 1 }
    guard pages.byteCount == byteCount else { throw .unplannedPages(start) }
    return pages
  }
}
