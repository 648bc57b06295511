/// The CRC-32C of RFC 3720, appendix B.4: reflected polynomial 0x82F63B78, start and final inversion.
///
/// It finds every flipped bit and every burst of up to 32 bits. It is no defence against somebody who means it.
public enum CRC32C {
  private static let table: [UInt32] = (0..<256).map { byte in
    (0..<8).reduce(UInt32(byte)) { crc, _ in crc & 1 == 0 ? crc >> 1 : crc >> 1 ^ 0x82F6_3B78 }
  }

  /// The checksum of bytes.
  /// - Parameter previous: the checksum of what stands before them, if anything does.
  public static func checksum(_ bytes: ArraySlice<UInt8>, after previous: UInt32 = 0) -> UInt32 {
    let table = table
    var crc = ~previous
    for byte in bytes { crc = table[Int(UInt8(truncatingIfNeeded: crc) ^ byte)] ^ crc >> 8 }
    return ~crc
  }

  /// The checksum of bytes.
  /// - Parameter previous: the checksum of what stands before them, if anything does.
  public static func checksum(_ bytes: [UInt8], after previous: UInt32 = 0) -> UInt32 {
    checksum(bytes[...], after: previous)
  }
}
