/// What a `PageCodec` has made of the pages given to it.
public struct PageCodecReport: Equatable, Sendable {
  /// The pages sent in one encoding, and the bytes that they took.
  public struct Share: Equatable, Sendable {
    public var pageCount: UInt64 = 0
    public var byteCount: UInt64 = 0
  }

  public private(set) var plain = Share()
  public private(set) var zero = Share()
  public private(set) var unchanged = Share()
  public private(set) var delta = Share()
  public private(set) var lz4 = Share()
  /// How many bytes the pages have.
  public private(set) var byteCountIn: UInt64 = 0
  /// How many bytes they take as they are sent.
  public private(set) var byteCountOut: UInt64 = 0
  /// Time spent on comparing pages with earlier ones and on keeping them, whatever came of it.
  public internal(set) var deltaNanoseconds: UInt64 = 0
  /// Time spent on compressing, whatever came of it.
  public internal(set) var lz4Nanoseconds: UInt64 = 0

  public init() {}

  mutating func note(_ page: EncodedPage, pageByteCount: Int) {
    let share =
      switch page.encoding {
      case .plain: \Self.plain
      case .zero: \Self.zero
      case .unchanged: \Self.unchanged
      case .delta: \Self.delta
      case .lz4: \Self.lz4
      }
    self[keyPath: share].pageCount += 1
    self[keyPath: share].byteCount += UInt64(page.byteCount)
    byteCountIn += UInt64(pageByteCount)
    byteCountOut += UInt64(page.byteCount)
  }
}
