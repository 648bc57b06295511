import LinuxIO

/// How the bytes of a page are sent.
public enum PageEncoding: UInt8, CaseIterable, Sendable {
  /// The page as it is.
  case plain = 0
  /// Nothing: the page holds zeros.
  case zero = 1
  /// Nothing: the page holds what was last sent of it.
  case unchanged = 2
  /// A `PageDelta` against what was last sent of the page.
  case delta = 3
  /// An LZ4 block.
  case lz4 = 4

  /// Puts a page together from what was sent of it, which may come from anybody.
  ///
  /// Nothing outside `room` is written. What `room` holds after false is not said.
  /// - Parameters:
  ///   - payload: the bytes that were sent in this encoding.
  ///   - destination: holds in `room` the page as it was last decoded, and the new one afterwards.
  /// - Returns: whether the payload is one of this encoding for a page of as many bytes as `room` has.
  public func decode(
    _ payload: Span<UInt8>, into destination: inout MutableSpan<UInt8>, within room: Range<Int>
  ) -> Bool {
    switch self {
    case .plain:
      guard payload.count == room.count else { return false }
      destination.copy(0..<payload.count, of: payload, to: room.lowerBound)
      return true
    case .zero:
      destination.clear(room)
      return payload.isEmpty
    case .unchanged: return payload.isEmpty
    case .delta: return !payload.isEmpty && PageDelta.apply(payload, to: &destination, within: room)
    case .lz4: return LZ4Block.decompress(payload, into: &destination, within: room)
    }
  }
}

/// A page as it is sent.
public struct EncodedPage: Equatable, Sendable {
  public var encoding: PageEncoding
  /// How many bytes there are to send in this encoding.
  public var byteCount: Int

  public init(_ encoding: PageEncoding, byteCount: Int) {
    self.encoding = encoding
    self.byteCount = byteCount
  }
}
