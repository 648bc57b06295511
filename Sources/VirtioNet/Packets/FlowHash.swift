/// The Toeplitz hash of a packet's flow, for receive-side scaling and hash reports (5.1.6.4.3).
///
/// Every packet of a flow has the same hash. Fragments have that of their addresses, because only the first has ports.
public struct FlowHash: Sendable {
  /// The bytes of a key that are used: enough for two IPv6 addresses and two ports.
  public static let keyByteCount = 40
  private static let inputByteCount = keyByteCount - 4

  /// What each value of each input byte adds to the hash.
  private let table: [UInt32]

  /// - Parameter key: of which the first 40 bytes count; if it is shorter, zeros follow.
  public init(key: [UInt8]) {
    let key = key.prefix(Self.keyByteCount) + repeatElement(0, count: max(0, Self.keyByteCount - key.count))
    var table = [UInt32](repeating: 0, count: Self.inputByteCount * 256)
    for place in 0..<Self.inputByteCount {
      let window = key[place..<place + 5].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
      for value in 1..<256 {
        // A value adds what it adds without its lowest bit, and the 32 bits of the key that this bit selects.
        let lowest = UInt32(truncatingIfNeeded: window >> (UInt64(value.trailingZeroBitCount) + 1))
        table[place * 256 + value] = table[place * 256 + (value & (value - 1))] ^ lowest
      }
    }
    self.table = table
  }

  /// Hashes a packet over the fields of the first type that applies to it.
  /// - Parameter headers: where the packet's headers lie in `bytes`.
  /// - Returns: nil when there is none.
  public func hash(
    _ bytes: borrowing [UInt8], _ headers: FrameHeaders, types: HashTypes
  ) -> (value: UInt32, report: HashReport)? {
    guard let report = report(headers, types) else { return nil }
    let ports: Int
    var value: UInt32 = 0
    switch report {
    case .none: return nil
    case .ip4, .tcp4, .udp4:
      value = part(bytes, headers.networkStart + 12, count: 8, at: 0)
      ports = 8
    case .ip6, .tcp6, .udp6:
      value = part(bytes, headers.networkStart + 8, count: 32, at: 0)
      ports = 32
    case .ip6Extended, .tcp6Extended, .udp6Extended:
      value = part(bytes, headers.homeAddressPlace ?? headers.networkStart + 8, count: 16, at: 0)
      value ^= part(bytes, headers.routedAddressPlace ?? headers.networkStart + 24, count: 16, at: 16)
      ports = 32
    }
    switch report {
    case .none, .ip4, .ip6, .ip6Extended: break
    default: value ^= part(bytes, headers.transportStart, count: 4, at: ports)
    }
    return (value, report)
  }

  /// What some bytes of the input add.
  private func part(_ bytes: borrowing [UInt8], _ place: Int, count: Int, at position: Int) -> UInt32 {
    let input = bytes.span.extracting(place..<place + count)
    let table = table.span.extracting(position * 256..<(position + count) * 256)
    var value: UInt32 = 0
    for index in 0..<count { value ^= table[index &* 256 &+ Int(input[index])] }
    return value
  }

  /// The first type that applies, in the specification's order.
  private func report(_ headers: FrameHeaders, _ types: HashTypes) -> HashReport? {
    switch headers.network {
    case nil: return nil
    case .ip4: return first(headers.transport, types, .tcp4, .udp4, .ip4)
    case .ip6:
      if headers.hasExtensions,
        let report = first(headers.transport, types, .tcp6Extended, .udp6Extended, .ip6Extended)
      {
        return report
      }
      return first(headers.transport, types, .tcp6, .udp6, .ip6)
    }
  }

  private func first(
    _ transport: FrameHeaders.Transport?, _ types: HashTypes, _ tcp: HashReport, _ udp: HashReport, _ ip: HashReport
  ) -> HashReport? {
    if transport == .tcp, types.contains(HashTypes(tcp)) { return tcp }
    if transport == .udp, types.contains(HashTypes(udp)) { return udp }
    return types.contains(HashTypes(ip)) ? ip : nil
  }
}
