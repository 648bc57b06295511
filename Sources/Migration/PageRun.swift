import GuestRAM

/// Neighbouring pages of one region that are moved alike.
struct PageRun: Equatable {
  /// The most pages with data in a run: as many as a frame carries.
  static let mostDataPages = UInt32(Frame.mostPageData / Int(GuestPage.byteCount))
  /// The most runs that one plan announces.
  static let mostInPlan = 4096

  var start: GuestAddress
  var pageCount: UInt32
  /// Whether all of it is zero, so that nothing of it is sent.
  var isZero: Bool

  var byteCount: UInt64 { UInt64(pageCount) * GuestPage.byteCount }
  var range: GuestRange { GuestRange(start: start, byteCount: byteCount) }
  var buffer: GuestBuffer { GuestBuffer(address: start, byteCount: Int(byteCount)) }

  /// The payload of a plan: for each run its address, with the lowest bit set if it is zero, and its pages.
  static func payload(_ runs: [PageRun]) -> [UInt8] {
    var writer = WireWriter()
    for run in runs {
      writer.append(run.start.rawValue | (run.isZero ? 1 : 0))
      writer.append(run.pageCount)
    }
    return writer.bytes
  }

  static func runs(_ payload: [UInt8]) throws(MigrationError) -> [PageRun] {
    var reader = WireReader(payload)
    var runs: [PageRun] = []
    while reader.remainingCount > 0 {
      guard let word: UInt64 = reader.integer(), let pageCount: UInt32 = reader.integer(), runs.count < mostInPlan
      else { throw .malformedFrame(.plan) }
      runs.append(PageRun(start: GuestAddress(word & ~1), pageCount: pageCount, isZero: word & 1 == 1))
    }
    // A frame that says nothing could be sent for ever.
    guard !runs.isEmpty else { throw .malformedFrame(.plan) }
    return runs
  }
}

/// Takes runs of pages that must lie in a region each and rise from one to the next.
struct PageCursor {
  private let regions: [GuestRange]
  private var index = 0
  /// The first address not taken yet.
  private(set) var free: UInt64 = 0

  init(_ regions: [GuestRange]) {
    self.regions = regions
  }

  mutating func take(_ start: GuestAddress, pageCount: UInt64) throws(MigrationError) -> GuestRange {
    let address = start.rawValue
    while index < regions.count, regions[index].start.rawValue + (regions[index].byteCount - 1) < address { index += 1 }
    guard index < regions.count, address >= regions[index].start.rawValue, address >= free,
      address % GuestPage.byteCount == 0, pageCount > 0,
      pageCount <= (regions[index].byteCount - (address - regions[index].start.rawValue)) / GuestPage.byteCount
    else { throw .misplacedPages(start, pageCount: pageCount) }
    let byteCount = pageCount * GuestPage.byteCount
    free = address + byteCount
    return GuestRange(start: start, byteCount: byteCount)
  }
}

extension GuestMemory {
  /// The parts with host memory behind them, in whole pages, in rising order, each within a region.
  ///
  /// - Parameter part: what is asked about, all of memory when nil. A page that reaches beyond it may be named whole.
  func residentPages(in part: GuestRange? = nil) throws(MigrationError) -> [GuestRange] {
    let resident = try inGuestMemory { () throws(GuestMemoryError) in
      if let part { try residentRanges(in: part) } else { try residentRanges() }
    }
    return Self.pages(of: resident)
  }

  /// At least the parts of these ranges, which rise, that have host memory behind them.
  ///
  /// To ask about a few pages too many costs less than to ask once more.
  func residentPages(near ranges: [GuestRange]) throws(MigrationError) -> [GuestRange] {
    let near = ranges.bridged(over: 128 << 10)
    return Self.pages(of: try inGuestMemory { () throws(GuestMemoryError) in try residentRanges(in: near) })
  }

  /// The whole pages that ranges touch, each once.
  private static func pages(of resident: [GuestRange]) -> [GuestRange] {
    var free: UInt64 = 0
    var pages: [GuestRange] = []
    for range in resident {
      // A region that starts within a page of its file has its pages across the file's.
      let mask = GuestPage.byteCount - 1
      let start = max(range.start.rawValue & ~mask, free)
      let last = (range.start.rawValue + (range.byteCount - 1)) | mask
      guard last >= start else { continue }
      free = last &+ 1
      pages.append(GuestRange(start: GuestAddress(start), byteCount: last - start + 1))
    }
    return pages
  }
}

/// Some of a guest's pages, in stretches of a few MiB, each told apart into data and zeros.
struct PageSweep: Sendable {
  /// Enough to keep the destination's helpers ahead of the data, little enough to stay in the processor's cache.
  private static let mostPages: UInt64 = 2048

  private let guest: GuestMemory
  private var pieces: [PagePiece]
  /// Whether pages may be given back long after the pieces were found: reading them would get them memory again.
  private let looksTwice: Bool
  private var index = 0
  /// The bytes of the piece at `index` that have been looked at.
  private var offset: UInt64 = 0

  /// Whether all of it is one stretch.
  var isShort: Bool { pieces.reduce(0) { $0 + $1.range.byteCount } <= Self.mostPages * GuestPage.byteCount }

  /// All pages that have memory behind them.
  init(_ guest: GuestMemory) throws(MigrationError) {
    let pieces = try guest.residentPages().map { PagePiece(range: $0, isResident: true) }
    self.init(guest, of: pieces, looksTwice: true)
  }

  /// - Parameter pieces: whole pages in rising order, each piece within a region.
  init(_ guest: GuestMemory, of pieces: [PagePiece], looksTwice: Bool = false) {
    self.guest = guest
    self.pieces = pieces
    self.looksTwice = looksTwice
  }

  /// Leaves pages out that it has not come to yet.
  ///
  /// - Parameter ranges: whole pages, rising and not overlapping.
  /// - Returns: those of them that it would have come to.
  mutating func leaveOut(_ ranges: [GuestRange]) -> [GuestRange] {
    guard !ranges.isEmpty, index < pieces.count else { return [] }
    var rests = pieces[index...].map(\.range)
    rests[0] = GuestRange(
      start: GuestAddress(rests[0].start.rawValue + offset), byteCount: rests[0].byteCount - offset)
    var left: [PagePiece] = []
    var taken: [GuestRange] = []
    for part in rests.pieces(resident: ranges) {
      if part.isResident {
        taken.append(part.range)
        continue
      }
      // The pieces rise like their parts.
      while pieces[index].range.overlap(part.range) == nil { index += 1 }
      left.append(PagePiece(range: part.range, isResident: pieces[index].isResident))
    }
    (pieces, index, offset) = (left, 0, 0)
    return taken
  }

  /// The runs of the next stretch; none at the end.
  mutating func next() throws(MigrationError) -> [PageRun] { try runs(of: nextPieces()) }

  /// What pieces hold, some of which may have been given back meanwhile.
  func runs(of pieces: [PagePiece]) throws(MigrationError) -> [PageRun] {
    var runs: [PageRun] = []
    for piece in pieces { try name(piece, &runs) }
    return runs
  }

  /// The next stretch; nothing at the end.
  mutating func nextPieces() -> [PagePiece] {
    var stretch: [PagePiece] = []
    var left = Self.mostPages * GuestPage.byteCount
    while left > 0, index < pieces.count {
      let piece = pieces[index]
      let start = GuestAddress(piece.range.start.rawValue + offset)
      guard let part = Self.part(of: piece.range, from: start, atMost: left) else { break }
      stretch.append(PagePiece(range: part, isResident: piece.isResident))
      left = part.byteCount < piece.range.byteCount - offset ? 0 : left - part.byteCount
      offset += part.byteCount
      if offset == piece.range.byteCount { (index, offset) = (index + 1, 0) }
    }
    return stretch
  }

  /// What is next of a piece. It is cut only where the destination may put huge pages on both sides, and waits for the next
  /// stretch, which has room for it, if there is no such place.
  private static func part(of range: GuestRange, from start: GuestAddress, atMost most: UInt64) -> GuestRange? {
    let rest = range.byteCount - (start.rawValue - range.start.rawValue)
    guard rest > most else { return GuestRange(start: start, byteCount: rest) }
    let end = (start.rawValue + most) & ~(2 << 20 - 1)
    return end > start.rawValue ? GuestRange(start: start, byteCount: end - start.rawValue) : nil
  }

  private func name(_ piece: PagePiece, _ runs: inout [PageRun]) throws(MigrationError) {
    guard piece.isResident, looksTwice else { return try name(exactly: piece, &runs) }
    for part in [piece.range].pieces(resident: try guest.residentPages(in: piece.range)) {
      try name(exactly: part, &runs)
    }
  }

  private func name(exactly piece: PagePiece, _ runs: inout [PageRun]) throws(MigrationError) {
    if piece.isResident { return try look(at: piece.range, &runs) }
    let pageCount = UInt32(piece.range.byteCount / GuestPage.byteCount)
    runs.append(PageRun(start: piece.range.start, pageCount: pageCount, isZero: true))
  }

  private func look(at range: GuestRange, _ runs: inout [PageRun]) throws(MigrationError) {
    var (start, left) = (range.start, range.byteCount)
    while left > 0 {
      let rest = GuestRange(start: start, byteCount: left)
      let (count, areZero) = try inGuestMemory { () throws(GuestMemoryError) in try guest.leadingPages(of: rest) }
      for page in stride(from: 0, to: count, by: areZero ? count : Int(PageRun.mostDataPages)) {
        let runStart = GuestAddress(start.rawValue + UInt64(page) * GuestPage.byteCount)
        let pageCount = areZero ? UInt32(count) : min(PageRun.mostDataPages, UInt32(count - page))
        runs.append(PageRun(start: runStart, pageCount: pageCount, isZero: areZero))
      }
      let byteCount = UInt64(count) * GuestPage.byteCount
      (start, left) = (GuestAddress(start.rawValue + byteCount), left - byteCount)
    }
  }
}
