/// Which 4 KiB pieces of large backing pages a guest has given up, so that a backing page goes back to the host once
/// all of it is given up and not before.
///
/// Memory backed by 4 KiB pages needs none of this and takes no room here.
public struct BackingPages: Sendable {
  /// The bytes of a balloon page, whatever page size the guest or the host uses (5.5.6).
  public static let pieceByteCount: UInt64 = 4096

  fileprivate struct Region {
    let range: GuestRange
    let pageByteCount: UInt64
    /// How many bytes of the region's first backing page lie before the region.
    let lead: UInt64
    /// A bit for each 4 KiB piece, counted from the region's start.
    var pieces: [UInt64]
  }

  private var regions: [Region]

  /// Nothing given up yet.
  public init(of memory: GuestMemory) {
    self.init(
      regions: memory.regions.map { ($0.range, hostOffset: $0.mappingOffset, pageByteCount: $0.backingPageByteCount) })
  }

  /// Nothing given up yet of regions in rising order.
  ///
  /// - Parameter regions: where each lies in the guest, where it starts in its backing pages, and their size, in bytes.
  init(regions: [(range: GuestRange, hostOffset: Int, pageByteCount: Int)]) {
    self.regions = regions.filter { $0.pageByteCount > Int(Self.pieceByteCount) }.map { region in
      let count = Int((region.range.byteCount + Self.pieceByteCount - 1) / Self.pieceByteCount)
      return Region(
        range: region.range, pageByteCount: UInt64(region.pageByteCount),
        lead: UInt64(region.hostOffset % region.pageByteCount), pieces: [UInt64](repeating: 0, count: (count + 63) / 64)
      )
    }
  }

  /// Notes pieces as given up, and hands out the ranges that may go back to the host now.
  ///
  /// - Parameters:
  ///   - range: guest memory; a 4 KiB piece of which only part lies in it stays in use.
  ///   - release: called with ranges that `GuestMemory.discard` takes.
  public mutating func giveUp<E: Error>(
    _ range: GuestRange, release: (GuestRange) throws(E) -> Void
  ) throws(E) {
    var rest = range
    for index in regions.indices {
      guard let part = regions[index].range.overlap(rest) else { continue }
      let before = part.start.rawValue - rest.start.rawValue
      if before > 0 { try release(GuestRange(start: rest.start, byteCount: before)) }
      try regions[index].giveUp(part, release)
      let used = before + part.byteCount
      rest = GuestRange(start: GuestAddress(rest.start.rawValue &+ used), byteCount: rest.byteCount - used)
    }
    if rest.byteCount > 0 { try release(rest) }
  }

  /// Notes that the guest uses pieces again, all that the range touches.
  public mutating func takeBack(_ range: GuestRange) {
    for index in regions.indices {
      guard let part = regions[index].range.overlap(range) else { continue }
      regions[index].takeBack(part)
    }
  }

  /// The pieces given up whose backing page is still held because other pieces of it are in use.
  public var heldBack: [GuestRange] {
    regions.flatMap { $0.heldBack }
  }
}

extension BackingPages.Region {
  mutating func giveUp<E: Error>(_ part: GuestRange, _ release: (GuestRange) throws(E) -> Void) throws(E) {
    let offset = part.start.rawValue - range.start.rawValue
    let first = piece(roundingUp: offset)
    let end = (offset + part.byteCount) / BackingPages.pieceByteCount
    guard first < end else { return }
    for piece in first..<end { pieces[Int(piece / 64)] |= 1 << (piece % 64) }
    var run: Range<UInt64>?
    for page in page(of: first * BackingPages.pieceByteCount)...page(of: end * BackingPages.pieceByteCount - 1)
    where isGivenUp(page) {
      if let last = run, last.upperBound == page {
        run = last.lowerBound..<(page + 1)
      } else {
        if let run { try release(pages(run)) }
        run = page..<(page + 1)
      }
    }
    if let run { try release(pages(run)) }
  }

  mutating func takeBack(_ part: GuestRange) {
    let offset = part.start.rawValue - range.start.rawValue
    let first = offset / BackingPages.pieceByteCount
    for piece in first..<piece(roundingUp: offset + part.byteCount) { pieces[Int(piece / 64)] &= ~(1 << (piece % 64)) }
  }

  var heldBack: [GuestRange] {
    var ranges: [GuestRange] = []
    for page in 0...page(of: range.byteCount - 1) where !isGivenUp(page) {
      let offset = max(page * pageByteCount, lead) - lead
      let end = min((page + 1) * pageByteCount - lead, range.byteCount)
      for piece in piece(roundingUp: offset)..<piece(roundingUp: end) where isGivenUp(piece: piece) {
        append(piece, to: &ranges)
      }
    }
    return ranges
  }
}

extension BackingPages.Region {
  private func piece(roundingUp offset: UInt64) -> UInt64 {
    (offset + BackingPages.pieceByteCount - 1) / BackingPages.pieceByteCount
  }

  /// The backing page that a byte of the region lies in.
  private func page(of offset: UInt64) -> UInt64 {
    (lead + offset) / pageByteCount
  }

  private func isGivenUp(piece: UInt64) -> Bool {
    pieces[Int(piece / 64)] >> (piece % 64) & 1 != 0
  }

  /// Whether all pieces of a backing page are given up. A page that the region begins or ends within never is: others
  /// may use the rest of it.
  private func isGivenUp(_ page: UInt64) -> Bool {
    let start = page * pageByteCount
    guard start >= lead, start + pageByteCount <= lead + range.byteCount else { return false }
    let first = (start - lead) / BackingPages.pieceByteCount
    return (first..<piece(roundingUp: start - lead + pageByteCount)).allSatisfy { isGivenUp(piece: $0) }
  }

  private func pages(_ run: Range<UInt64>) -> GuestRange {
    GuestRange(
      start: GuestAddress(range.start.rawValue + (run.lowerBound * pageByteCount - lead)),
      byteCount: UInt64(run.count) * pageByteCount)
  }

  private func append(_ piece: UInt64, to ranges: inout [GuestRange]) {
    let start = GuestAddress(range.start.rawValue + piece * BackingPages.pieceByteCount)
    if let last = ranges.last, last.end == start {
      ranges[ranges.count - 1] = GuestRange(
        start: last.start, byteCount: last.byteCount + BackingPages.pieceByteCount)
    } else {
      ranges.append(GuestRange(start: start, byteCount: BackingPages.pieceByteCount))
    }
  }
}
