import GuestRAM

/// Pages to be looked at, and whether there is host memory behind them: where there is none they are zero.
struct PagePiece: Equatable {
  let range: GuestRange
  let isResident: Bool
}

extension [GuestRange] {
  /// How many bytes the ranges have together.
  var byteCount: UInt64 { reduce(0) { $0 + $1.byteCount } }

  /// The ranges joined over gaps that are no longer than this.
  func bridged(over gap: UInt64) -> [GuestRange] {
    var bridged: [GuestRange] = []
    for range in self {
      if let last = bridged.last, range.start.rawValue - last.endValue <= gap {
        bridged[bridged.count - 1] = GuestRange(start: last.start, byteCount: range.endValue - last.start.rawValue)
      } else {
        bridged.append(range)
      }
    }
    return bridged
  }

  /// What is in either, as long as no range of one touches two regions of memory. Both rise and do not overlap.
  func union(_ other: [GuestRange]) -> [GuestRange] {
    var union: [GuestRange] = []
    for range in (self + other).sorted(by: { $0.start.rawValue < $1.start.rawValue }) {
      // Neighbours stay apart: they may be of two regions.
      if let last = union.last, range.start.rawValue < last.endValue {
        union[union.count - 1] = GuestRange(
          start: last.start, byteCount: Swift.max(last.endValue, range.endValue) - last.start.rawValue)
      } else {
        union.append(range)
      }
    }
    return union
  }

  /// What is in these and not in the others. Both rise and do not overlap, and so does what comes of it.
  func subtracting(_ other: [GuestRange]) -> [GuestRange] {
    other.isEmpty ? self : pieces(resident: other).filter { !$0.isResident }.map(\.range)
  }

  /// The ranges cut where those of `resident` begin and end. Both rise and do not overlap, and so does what comes of it.
  func pieces(resident: [GuestRange]) -> [PagePiece] {
    var pieces: [PagePiece] = []
    var index = 0
    for range in self {
      var start = range.start.rawValue
      let end = range.endValue
      func add(upTo next: UInt64, _ isResident: Bool) {
        guard next > start else { return }
        pieces.append(
          PagePiece(range: GuestRange(start: GuestAddress(start), byteCount: next - start), isResident: isResident))
        start = next
      }
      while start < end {
        while index < resident.count, resident[index].endValue <= start { index += 1 }
        guard index < resident.count else {
          add(upTo: end, false)
          break
        }
        add(upTo: Swift.min(end, resident[index].start.rawValue), false)
        add(upTo: Swift.min(end, resident[index].endValue), true)
      }
    }
    return pieces
  }
}

extension GuestRange {
  /// The address after the range, which is one of guest memory.
  fileprivate var endValue: UInt64 { start.rawValue + byteCount }
}
