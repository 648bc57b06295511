import LinuxIO
import Migration

struct WrongPage: Error {}

/// Codes pages in every way, in turns, so that what slows the machine down slows all of them.
struct Coder: ~Copyable {
  private(set) var copy = Result()
  private(set) var compress = Result()
  private(set) var expand = Result()
  private(set) var delta = Result()
  private(set) var apply = Result()
  private(set) var chosen = Result()

  private var compressor = LZ4Compressor()
  private var coded = [UInt8](repeating: 0, count: Pages.count * Pages.byteCount)
  /// How long each page became; nil for those that stayed as they were.
  private var lengths: [Int?] = []

  mutating func run(_ pages: Pages) throws {
    copy.time { Self.copy(pages, &coded) }
    compress.time { Self.compress(pages, &compressor, &coded, &lengths) }
    compress.byteCount = codedByteCount
    try Self.decode(pages, &expand, coded, lengths, from: [UInt8](repeating: 0, count: coded.count)) {
      LZ4Block.decompress($0, into: &$1, within: $2)
    }
    delta.time { Self.encodeDeltas(pages, &coded, &lengths) }
    delta.byteCount = codedByteCount
    try Self.decode(pages, &apply, coded, lengths, from: pages.earlier) {
      PageDelta.apply($0, to: &$1, within: $2)
    }
    choose(pages)
  }

  private var codedByteCount: Int {
    lengths.reduce(0) { $0 + ($1 ?? Pages.byteCount) }
  }

  private static func copy(_ pages: Pages, _ coded: inout [UInt8]) {
    var target = coded.mutableSpan
    for page in Pages.ranges { target.copy(page, of: pages.bytes.span, to: page.lowerBound) }
  }

  private static func compress(
    _ pages: Pages, _ compressor: inout LZ4Compressor, _ coded: inout [UInt8], _ lengths: inout [Int?]
  ) {
    lengths.removeAll(keepingCapacity: true)
    var target = coded.mutableSpan
    for page in Pages.ranges {
      let room = page.lowerBound..<page.lowerBound + 3584
      lengths.append(compressor.compress(pages.bytes.span.extracting(page), into: &target, within: room))
    }
  }

  private static func encodeDeltas(_ pages: Pages, _ coded: inout [UInt8], _ lengths: inout [Int?]) {
    lengths.removeAll(keepingCapacity: true)
    var target = coded.mutableSpan
    for page in Pages.ranges {
      let old = pages.earlier.span.extracting(page)
      let new = pages.bytes.span.extracting(page)
      lengths.append(
        PageDelta.encode(old: old, new: new, into: &target, within: page.lowerBound..<page.lowerBound + 2048))
    }
  }

  /// Decodes all pages into places that hold those of `start`, and makes sure that they are right.
  private static func decode(
    _ pages: Pages, _ result: inout Result, _ coded: [UInt8], _ lengths: [Int?], from start: [UInt8],
    _ decode: (Span<UInt8>, inout MutableSpan<UInt8>, Range<Int>) -> Bool
  ) throws {
    guard lengths.allSatisfy({ $0 != nil }) else { return }
    var decoded = start
    try result.time {
      var target = decoded.mutableSpan
      for (page, length) in zip(Pages.ranges, lengths) {
        let payload = coded.span.extracting(page.lowerBound..<page.lowerBound + (length ?? 0))
        guard decode(payload, &target, page) else { throw WrongPage() }
      }
    }
    guard decoded == pages.bytes else { throw WrongPage() }
  }

  /// A round of the earlier pages and one of these through a codec that chooses, on a link of a gigabit a second; the
  /// second round is what is measured.
  private mutating func choose(_ pages: Pages) {
    var codec = PageCodec(cacheByteCount: 2 * Pages.count * Pages.byteCount)
    codec.linkSpeed = 125_000_000
    Self.encode(pages.earlier, &codec, &coded)
    let before = codec.report.byteCountOut
    chosen.time { Self.encode(pages.bytes, &codec, &coded) }
    chosen.byteCount = Int(codec.report.byteCountOut - before)
  }

  private static func encode(_ bytes: [UInt8], _ codec: inout PageCodec, _ coded: inout [UInt8]) {
    codec.startRound()
    var target = coded.mutableSpan
    for (number, page) in Pages.ranges.enumerated() {
      _ = codec.encode(bytes.span.extracting(page), number: UInt64(number), into: &target, within: page)
    }
  }
}
