/// The bytes that the fuzzer made up, taken from the front. What is not there is 0, so every input is a whole one.
public struct FuzzInput {
  private let bytes: [UInt8]
  private var position = 0

  public init(_ bytes: [UInt8]) {
    self.bytes = bytes
  }

  public init(_ start: UnsafePointer<UInt8>?, _ count: Int) {
    self.init(Array(UnsafeBufferPointer(start: start, count: count)))
  }

  public var isAtEnd: Bool { position == bytes.count }

  public mutating func byte() -> UInt8 {
    guard position < bytes.count else { return 0 }
    defer { position += 1 }
    return bytes[position]
  }

  /// A little-endian integer.
  public mutating func integer<T: FixedWidthInteger>(_: T.Type) -> T {
    (0..<T.bitWidth / 8).reduce(0) { $0 | T(truncatingIfNeeded: byte()) << T(8 * $1) }
  }

  /// At most so many of the bytes that are left.
  public mutating func bytes(upTo most: Int) -> [UInt8] {
    defer { position = min(position + most, bytes.count) }
    return Array(bytes[position..<min(position + most, bytes.count)])
  }

  public mutating func rest() -> [UInt8] { bytes(upTo: .max - position) }
}

/// The bytes of a little-endian integer.
public func bytes<T: FixedWidthInteger>(of value: T) -> [UInt8] {
  stride(from: 0, to: T.bitWidth, by: 8).map { UInt8(truncatingIfNeeded: value >> T($0)) }
}

/// What must hold whatever comes in.
public func require(_ condition: Bool, _ rule: String) {
  precondition(condition, rule)
}
