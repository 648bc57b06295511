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
    /// A bit for each 4 KiB piece.
    var pieces: [UInt64]
  }

  private var regions: [Region]

  /// Nothing given up yet.
  public init(of memory: GuestMemory) {
    regions = memory.regions.filter { $0.backingPageByteCount > Int(Self.pieceByteCount) }.map { region in
      let count = Int(region.range.byteCount / Self.pieceByteCount)
      return Region(
        range: region.range, pageByteCount: UInt64(region.backingPageByteCount),
        pieces: [UInt64](repeating: 0, count: (count + 63) / 64))
    }
  }

  /// Notes pieces as given up, and hands out the ranges that may go back to the host now.
  ///
  /// - Parameters:
  ///   - range: whole 4 KiB pieces of guest memory.
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

  /// Notes that the guest uses pieces again.
  public mutating func takeBack(_ range: GuestRange) {
    for index in regions.indices {
      guard let part = regions[index].range.overlap(range) else { continue }
      regions[index].forEachPiece(of: part) { $0.pieces[$1 / 64] &= ~(1 << UInt64($1 % 64)) }
    }
  }

  /// The pieces given up whose backing page is still held because other pieces of it are in use.
  public var heldBack: [GuestRange] {
    regions.flatMap { $0.heldBack }
  }
}

extension BackingPages.Region {
  private var piecesPerPage: Int { Int(pageByteCount / BackingPages.pieceByteCount) }

  mutating func forEachPiece(of part: GuestRange, _ body: (inout Self, Int) -> Void) {
    let first = Int((part.start.rawValue - range.start.rawValue) / BackingPages.pieceByteCount)
    for piece in first..<(first + Int(part.byteCount / BackingPages.pieceByteCount)) { body(&self, piece) }
  }

  mutating func giveUp<E: Error>(_ part: GuestRange, _ release: (GuestRange) throws(E) -> Void) throws(E) {
    forEachPiece(of: part) { $0.pieces[$1 / 64] |= 1 << UInt64($1 % 64) }
    let offset = part.start.rawValue - range.start.rawValue
    var run: Range<UInt64>?
    for page in (offset / pageByteCount)...((offset + part.byteCount - 1) / pageByteCount) where isGivenUp(page) {
      if let last = run, last.upperBound == page {
        run = last.lowerBound..<(page + 1)
      } else {
        if let run { try release(pages(run)) }
        run = page..<(page + 1)
      }
    }
    if let run { try release(pages(run)) }
  }

  /// Whether all pieces of a backing page are given up. A page that the region ends within never is.
  private func isGivenUp(_ page: UInt64) -> Bool {
    guard (page + 1) * pageByteCount <= range.byteCount else { return false }
    let first = Int(page) * piecesPerPage
    return (first..<(first + piecesPerPage)).allSatisfy { pieces[$0 / 64] >> UInt64($0 % 64) & 1 != 0 }
  }

  private func pages(_ run: Range<UInt64>) -> GuestRange {
    GuestRange(
      start: GuestAddress(range.start.rawValue + run.lowerBound * pageByteCount),
      byteCount: UInt64(run.count) * pageByteCount)
  }

  var heldBack: [GuestRange] {
    var ranges: [GuestRange] = []
    for piece in 0..<Int(range.byteCount / BackingPages.pieceByteCount)
    where pieces[piece / 64] >> UInt64(piece % 64) & 1 != 0 && !isGivenUp(UInt64(piece / piecesPerPage)) {
      let start = GuestAddress(range.start.rawValue + UInt64(piece) * BackingPages.pieceByteCount)
      if let last = ranges.last, last.end == start {
        ranges[ranges.count - 1] = GuestRange(
          start: last.start, byteCount: last.byteCount + BackingPages.pieceByteCount)
      } else {
        ranges.append(GuestRange(start: start, byteCount: BackingPages.pieceByteCount))
      }
    }
    return ranges
  }
}
