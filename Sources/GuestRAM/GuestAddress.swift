/// A guest-physical address, in bytes.
public struct GuestAddress: Hashable, Sendable {
  public let rawValue: UInt64

  @inlinable
  public init(_ rawValue: UInt64) {
    self.rawValue = rawValue
  }

  /// The address `byteCount` bytes further on, or nil when there is none in 64 bits.
  @inlinable
  public func advanced(by byteCount: UInt64) -> GuestAddress? {
    let (sum, overflow) = rawValue.addingReportingOverflow(byteCount)
    return overflow ? nil : GuestAddress(sum)
  }
}

extension GuestAddress: Comparable {
  @inlinable
  public static func < (left: GuestAddress, right: GuestAddress) -> Bool {
    left.rawValue < right.rawValue
  }
}

extension GuestAddress: CustomStringConvertible {
  public var description: String {
    "0x" + String(rawValue, radix: 16)
  }
}

/// A contiguous stretch of guest-physical addresses.
public struct GuestRange: Hashable, Sendable {
  public let start: GuestAddress
  /// The length in bytes.
  public let byteCount: UInt64

  @inlinable
  public init(start: GuestAddress, byteCount: UInt64) {
    self.start = start
    self.byteCount = byteCount
  }

  /// The first address behind the range, or nil when the range runs past the end of the address space.
  @inlinable
  public var end: GuestAddress? {
    start.advanced(by: byteCount)
  }
}

extension GuestRange: CustomStringConvertible {
  public var description: String {
    "\(byteCount) bytes at \(start)"
  }
}

/// One buffer that a driver describes: where it starts and how long it is.
///
/// Nothing is known of it but what the driver said; each access checks it.
public struct GuestBuffer: Hashable, Sendable {
  public var address: GuestAddress
  /// The length in bytes, at most 2³²-1 (2.7.5).
  public var byteCount: Int

  @inlinable
  public init(address: GuestAddress, byteCount: Int) {
    self.address = address
    self.byteCount = byteCount
  }

  /// The same stretch as a range.
  @inlinable
  public var range: GuestRange {
    GuestRange(start: address, byteCount: UInt64(max(0, byteCount)))
  }
}
