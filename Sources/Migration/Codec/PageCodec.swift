public import LinuxIO

/// Chooses for each page how it is sent, by what the encodings have been measured to gain.
///
/// Zeros are always told from other bytes. Deltas and compression take part as long as they pay: as long as they save, in
/// a second of the processor's time, at least as many bytes as the link carries in one. One that does not pay is tried on
/// a sixteenth of the pages until it does.
///
/// The other side holds what was last encoded of a page. So each page that is encoded must be sent, in this order and
/// exactly as it was given here: copied from the guest's memory once, not looked at again. When that fails, make a new
/// codec.
public struct PageCodec: ~Copyable {
  /// The pages sent earlier, which deltas are made against.
  public private(set) var cache: PageCache
  /// What has become of the pages so far.
  public private(set) var report = PageCodecReport()
  /// How many bytes the link carries in a second, as last measured; 0 when that is not known yet.
  public var linkSpeed: UInt64 = 0

  private var compressor = LZ4Compressor()
  private var deltaGauge = GainGauge()
  private var lz4Gauge = GainGauge()
  private let clock: () -> UInt64

  /// Whether deltas are made of all pages that were sent before, not only of those by which they are judged.
  public var isDeltaPaying: Bool { deltaGauge.pays }
  /// Whether compression is tried on all other pages, not only on those by which it is judged.
  public var isLZ4Paying: Bool { lz4Gauge.pays }

  /// Makes a codec for pages of one size.
  /// - Parameters:
  ///   - cacheByteCount: memory for pages sent earlier; with none there are no deltas.
  ///   - pageByteCount: at most `LZ4Block.mostByteCount`.
  ///   - clock: nanoseconds since some moment, never going back.
  public init(
    cacheByteCount: Int, pageByteCount: Int = 4096, clock: @escaping () -> UInt64 = { MonotonicClock.now }
  ) {
    precondition(pageByteCount <= LZ4Block.mostByteCount && pageByteCount <= PageDelta.mostByteCount)
    cache = PageCache(byteCount: cacheByteCount, pageByteCount: pageByteCount)
    self.clock = clock
  }

  /// Starts another round over the guest's memory.
  public mutating func startRound() {
    cache.startRound()
  }

  /// The other side has been told without an encoding what these pages hold.
  public mutating func forget(_ numbers: Range<UInt64>) {
    for number in numbers { cache.remove(number) }
  }

  /// Encodes a page at the start of `room`, which must have space for the page as it is; all of it may be written.
  /// - Parameters:
  ///   - page: the bytes of the page.
  ///   - number: which page of the guest this is.
  public mutating func encode(
    _ page: Span<UInt8>, number: UInt64, into destination: inout MutableSpan<UInt8>, within room: Range<Int>
  ) -> EncodedPage {
    precondition(page.count == cache.pageByteCount && room.count >= page.count)
    let encoded = chooseEncoding(page, number, &destination, room)
    report.note(encoded, pageByteCount: page.count)
    return encoded
  }

  private mutating func chooseEncoding(
    _ page: Span<UInt8>, _ number: UInt64, _ destination: inout MutableSpan<UInt8>, _ room: Range<Int>
  ) -> EncodedPage {
    if page.holdsZeros {
      cache.remove(number)
      return EncodedPage(.zero, byteCount: 0)
    }
    if let encoded = encodeDelta(page, number, &destination, room) { return encoded }
    if let encoded = compress(page, number, &destination, room) { return encoded }
    destination.copy(0..<page.count, of: page, to: room.lowerBound)
    return EncodedPage(.plain, byteCount: page.count)
  }

  /// A delta, if it is no longer than half the page: compression may well make less of the page than that.
  private mutating func encodeDelta(
    _ page: Span<UInt8>, _ number: UInt64, _ destination: inout MutableSpan<UInt8>, _ room: Range<Int>
  ) -> EncodedPage? {
    guard deltaGauge.wants(number) else {
      cache.remove(number)
      return nil
    }
    let start = clock()
    let limit = room.lowerBound..<room.lowerBound + page.count / 2
    let byteCount = cache.delta(page, of: number, into: &destination, within: limit) ?? nil
    if byteCount != 0 { cache.store(page, of: number) }
    let nanoseconds = clock() &- start
    report.deltaNanoseconds &+= nanoseconds
    // The first round only fills the cache: nothing in it was sent before.
    if cache.round > 1 {
      let saved = byteCount.map { page.count - $0 } ?? 0
      deltaGauge.note(number, savedByteCount: saved, nanoseconds: nanoseconds, linkSpeed: linkSpeed)
    }
    return byteCount.map { EncodedPage($0 == 0 ? .unchanged : .delta, byteCount: $0) }
  }

  /// An LZ4 block, if it saves an eighth of the page: less is not worth the time of the side that expands it.
  private mutating func compress(
    _ page: Span<UInt8>, _ number: UInt64, _ destination: inout MutableSpan<UInt8>, _ room: Range<Int>
  ) -> EncodedPage? {
    guard lz4Gauge.wants(number) else { return nil }
    let start = clock()
    let limit = room.lowerBound..<room.lowerBound + page.count - page.count / 8
    let byteCount = compressor.compress(page, into: &destination, within: limit)
    let nanoseconds = clock() &- start
    report.lz4Nanoseconds &+= nanoseconds
    let saved = byteCount.map { page.count - $0 } ?? 0
    lz4Gauge.note(number, savedByteCount: saved, nanoseconds: nanoseconds, linkSpeed: linkSpeed)
    return byteCount.map { EncodedPage(.lz4, byteCount: $0) }
  }
}

extension Span<UInt8> {
  /// Whether all bytes are zero.
  fileprivate var holdsZeros: Bool {
    var position = 0
    while position &+ 16 <= count {
      if littleEndian(UInt128.self, at: position) != 0 { return false }
      position &+= 16
    }
    while position < count {
      if self[position] != 0 { return false }
      position &+= 1
    }
    return true
  }
}
