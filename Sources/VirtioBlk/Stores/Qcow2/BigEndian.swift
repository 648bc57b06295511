/// The order of bytes in a qcow2 image.
extension [UInt8] {
  /// The number at `offset`, most significant byte first. The caller keeps it within the array.
  func bigEndian<T: FixedWidthInteger & UnsignedInteger>(at offset: Int, as _: T.Type = T.self) -> T {
    var value: UInt64 = 0
    for byte in self[offset..<offset + T.bitWidth / 8] { value = value << 8 | UInt64(byte) }
    return T(truncatingIfNeeded: value)
  }

  mutating func setBigEndian<T: FixedWidthInteger & UnsignedInteger>(_ value: T, at offset: Int) {
    for index in 0..<T.bitWidth / 8 {
      self[offset + index] = UInt8(truncatingIfNeeded: value >> T(T.bitWidth - 8 - 8 * index))
    }
  }

  /// The bytes of a table.
  init(bigEndian entries: some Collection<UInt64>) {
    self = []
    reserveCapacity(entries.count * 8)
    for entry in entries {
      for shift in stride(from: UInt64(56), through: 0, by: -8) { append(UInt8(truncatingIfNeeded: entry >> shift)) }
    }
  }

  /// The entries of a table.
  var bigEndianEntries: [UInt64] {
    (0..<count / 8).map { bigEndian(at: $0 * 8) }
  }
}
