/// On which pair of queues the driver last sent each flow, which is where it expects the answers (5.1.6.5.6).
///
/// Flows that fall on the same place take it from each other, which costs them nothing but the better queue.
struct FlowMemory {
  private static let placeCount: UInt32 = 1024
  /// With a key of one pattern of 16 bits, both directions of a flow have the same hash.
  private static let hash = FlowHash(key: (0..<FlowHash.keyByteCount).map { $0.isMultiple(of: 2) ? 0x6D : 0x5A })
  /// Those of which both directions have the same fields.
  private static let types: HashTypes = [.ip4, .tcp4, .udp4, .ip6, .tcp6, .udp6]

  private var pairs = [UInt16?](repeating: nil, count: Int(placeCount))

  /// Notes that a packet was sent on a pair.
  mutating func note(_ bytes: borrowing [UInt8], _ frame: Range<Int>, pair: Int) {
    guard let flow = FrameHeaders(bytes, frame).flatMap({ Self.value(bytes, $0) }) else { return }
    pairs[Int(flow % Self.placeCount)] = UInt16(pair)
  }

  /// The pair for a packet to the driver, one of those that it uses.
  func pair(_ bytes: borrowing [UInt8], _ headers: FrameHeaders?, of pairCount: Int) -> Int {
    guard let headers, let flow = Self.value(bytes, headers) else { return 0 }
    if let pair = pairs[Int(flow % Self.placeCount)], pair < pairCount { return Int(pair) }
    return Int(flow % UInt32(pairCount))
  }

  mutating func forget() {
    self = FlowMemory()
  }

  private static func value(_ bytes: borrowing [UInt8], _ headers: FrameHeaders) -> UInt32? {
    hash.hash(bytes, headers, types: types)?.value
  }
}
