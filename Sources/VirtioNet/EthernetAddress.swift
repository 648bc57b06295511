public import DeviceState

/// A MAC address.
public struct EthernetAddress: RawRepresentable, Hashable, Sendable, StateValue {
  /// The six bytes as one number, the first that is sent highest; the upper 16 bits are 0.
  public let rawValue: UInt64

  /// - Parameter rawValue: six bytes; more makes nil.
  public init?(rawValue: UInt64) {
    guard rawValue >> 48 == 0 else { return nil }
    self.rawValue = rawValue
  }

  private init(trusted rawValue: UInt64) {
    self.rawValue = rawValue
  }

  /// What everybody gets.
  public static let broadcast = EthernetAddress(trusted: 0xFFFF_FFFF_FFFF)

  /// Reads six bytes. Fewer behind `offset` are the caller's mistake.
  public init(_ bytes: [UInt8], at offset: Int = 0) {
    var value: UInt64 = 0
    for place in 0..<6 { value = value << 8 | UInt64(bytes[offset + place]) }
    rawValue = value
  }

  /// The first six of some bytes; nil when there are fewer.
  public init?(_ bytes: some Sequence<UInt8>) {
    let six = Array(bytes.prefix(6))
    guard six.count == 6 else { return nil }
    self.init(six, at: 0)
  }

  /// Some address of the kind that anybody may give out: unicast and locally administered.
  public static func random(using generator: inout some RandomNumberGenerator) -> EthernetAddress {
    EthernetAddress(trusted: 0x0200_0000_0000 | UInt64.random(in: 0..<1 << 40, using: &generator))
  }

  /// The six bytes, in the order in which they are sent.
  public var bytes: [UInt8] {
    (0..<6).map { UInt8(truncatingIfNeeded: rawValue >> UInt64(40 - 8 * $0)) }
  }

  /// Whether it names a group, of which broadcast is one.
  public var isMulticast: Bool { rawValue >> 40 & 1 != 0 }

  /// Whether a card can have it as its own.
  public var isUnicast: Bool { !isMulticast && rawValue != 0 }
}

extension EthernetAddress: LosslessStringConvertible {
  /// Reads `52:54:00:12:34:56`.
  public init?(_ text: String) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    let bytes = parts.compactMap { $0.count == 2 && $0.first != "+" ? UInt8($0, radix: 16) : nil }
    guard parts.count == 6, bytes.count == 6 else { return nil }
    self.init(bytes, at: 0)
  }

  public var description: String {
    bytes.map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined(separator: ":")
  }
}
