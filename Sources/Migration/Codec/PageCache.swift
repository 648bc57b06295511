import LinuxIO

/// Pages as they were last sent, as many as a budget of memory holds.
///
/// Every page has two places where it may lie. A page takes the place of another only when that one has not been sent for
/// some rounds: a guest that changes more pages than there is room for keeps some of them here, instead of each pushing
/// out one that will be wanted sooner. Memory is taken at the start and never again.
public struct PageCache: ~Copyable {
  /// A page that was sent in this round or in one less than so many before it keeps its place.
  public static let roundsKept: UInt32 = 2

  private static let wayCount = 2
  private static let nobody = UInt64.max

  /// How many bytes every page has.
  public let pageByteCount: Int
  /// How many pages have room.
  public let pageCapacity: Int
  /// How many looked-up pages were here.
  public private(set) var hitCount: UInt64 = 0
  /// How many looked-up pages were not.
  public private(set) var missCount: UInt64 = 0
  /// Which round this is; 0 before the first has started.
  public private(set) var round: UInt32 = 0

  private let setCount: Int
  /// The page and the round in which it was last sent, per place.
  private var pages: [UInt64]
  private var rounds: [UInt32]
  private var bytes: [UInt8]

  /// Makes room for as many pages as fit with what is noted of them into `byteCount` bytes; there may be none.
  public init(byteCount: Int, pageByteCount: Int) {
    precondition(byteCount >= 0 && pageByteCount > 0)
    self.pageByteCount = pageByteCount
    let noteByteCount = MemoryLayout<UInt64>.size + MemoryLayout<UInt32>.size
    setCount = byteCount / (Self.wayCount * (pageByteCount + noteByteCount))
    pageCapacity = Self.wayCount * setCount
    pages = [UInt64](repeating: Self.nobody, count: pageCapacity)
    rounds = [UInt32](repeating: 0, count: pageCapacity)
    bytes = [UInt8](repeating: 0, count: pageCapacity * pageByteCount)
  }

  /// Starts another round over the guest's memory, as pages grow old by rounds.
  public mutating func startRound() {
    round = round == .max ? .max : round + 1
  }

  /// Lends `page` as it was last stored; nil, and `body` is not called, when it is not here.
  public mutating func withPage<Result>(_ page: UInt64, _ body: (Span<UInt8>) -> Result) -> Result? {
    guard let place = lookUp(page) else { return nil }
    return body(bytes.span.extracting(range(of: place)))
  }

  /// Keeps `content` as what `page` holds, if there is a place for it.
  /// - Returns: whether it is kept. If not, nothing older is kept of this page either.
  @discardableResult
  public mutating func store(_ content: Span<UInt8>, of page: UInt64) -> Bool {
    precondition(content.count == pageByteCount && page != Self.nobody)
    guard let place = place(of: page) ?? freePlace(for: page) else { return false }
    pages[place] = page
    rounds[place] = round
    let range = range(of: place)
    var target = bytes.mutableSpan
    target.copy(0..<content.count, of: content, to: range.lowerBound)
    return true
  }

  /// Forgets `page`, because something else was sent of it.
  public mutating func remove(_ page: UInt64) {
    if let place = place(of: page) { pages[place] = Self.nobody }
  }

  /// Encodes how `content` differs from what is kept of `page`.
  /// - Returns: how many bytes the delta has; nil within when it would have more than `room`; nil when nothing is kept.
  mutating func delta(
    _ content: Span<UInt8>, of page: UInt64, into destination: inout MutableSpan<UInt8>, within room: Range<Int>
  ) -> Int?? {
    guard let place = lookUp(page) else { return nil }
    let old = bytes.span.extracting(range(of: place))
    return .some(PageDelta.encode(old: old, new: content, into: &destination, within: room))
  }

  private mutating func lookUp(_ page: UInt64) -> Int? {
    guard let place = place(of: page) else {
      missCount += 1
      return nil
    }
    hitCount += 1
    rounds[place] = round
    return place
  }

  private func range(of place: Int) -> Range<Int> {
    place * pageByteCount..<(place + 1) * pageByteCount
  }

  /// The first of the two places of a page.
  private func firstPlace(of page: UInt64) -> Int {
    // Multiples of the golden ratio spread neighbours evenly over all places.
    let hash = page &* 0x9E37_79B9_7F4A_7C15
    return Self.wayCount * Int(hash.multipliedFullWidth(by: UInt64(setCount)).high)
  }

  private func place(of page: UInt64) -> Int? {
    guard setCount > 0 else { return nil }
    let first = firstPlace(of: page)
    if pages[first] == page { return first }
    return pages[first + 1] == page ? first + 1 : nil
  }

  /// A place that is empty, or else the one whose page was sent longer ago, if that is long enough.
  private func freePlace(for page: UInt64) -> Int? {
    guard setCount > 0 else { return nil }
    let first = firstPlace(of: page)
    if pages[first] == Self.nobody { return first }
    if pages[first + 1] == Self.nobody { return first + 1 }
    let older = rounds[first] <= rounds[first + 1] ? first : first + 1
    return round - rounds[older] >= Self.roundsKept ? older : nil
  }
}
