/// The CRC-32C of RFC 3720, appendix B.4: reflected polynomial 0x82F63B78, start and final inversion.
///
/// It finds every flipped bit and every burst of up to 32 bits. It is no defence against somebody who means it.
public enum CRC32C {
  /// Eight tables of 256: what a byte does to the sum that so many bytes follow.
  private static let tables: [UInt32] = {
    var tables: [UInt32] = []
    for byte in 0..<256 as Range<UInt32> {
      var crc = byte
      for _ in 0..<8 { crc = crc & 1 == 0 ? crc >> 1 : (crc >> 1) ^ 0x82F6_3B78 }
      tables.append(crc)
    }
    for index in 256..<8 * 256 {
      let before = tables[index - 256]
      tables.append(tables[Int(before & 0xFF)] ^ (before >> 8))
    }
    return tables
  }()

  /// The checksum of bytes.
  /// - Parameter previous: the checksum of what stands before them, if anything does.
  public static func checksum(_ bytes: [UInt8], after previous: UInt32 = 0) -> UInt32 {
    checksum(bytes[...], after: previous)
  }

  /// The checksum of bytes.
  /// - Parameter previous: the checksum of what stands before them, if anything does.
  public static func checksum(_ bytes: ArraySlice<UInt8>, after previous: UInt32 = 0) -> UInt32 {
    // Eight bytes at a time: the sums of a small state would else take longer than all the rest of writing it.
    let (tables, bytes) = (tables.span, bytes.span)
    var crc = ~previous
    var place = 0
    while place + 8 <= bytes.count {
      crc ^= word(bytes, place)
      let next = word(bytes, place + 4)
      var sum = tables[7 * 256 + Int(crc & 0xFF)] ^ tables[6 * 256 + Int(crc >> 8 & 0xFF)]
      sum ^= tables[5 * 256 + Int(crc >> 16 & 0xFF)] ^ tables[4 * 256 + Int(crc >> 24)]
      sum ^= tables[3 * 256 + Int(next & 0xFF)] ^ tables[2 * 256 + Int(next >> 8 & 0xFF)]
      crc = sum ^ tables[256 + Int(next >> 16 & 0xFF)] ^ tables[Int(next >> 24)]
      place += 8
    }
    while place < bytes.count {
      crc = tables[Int(UInt8(truncatingIfNeeded: crc) ^ bytes[place])] ^ (crc >> 8)
      place += 1
    }
    return ~crc
  }

  private static func word(_ bytes: Span<UInt8>, _ place: Int) -> UInt32 {
    let low = UInt32(bytes[place]) | UInt32(bytes[place + 1]) << 8
    let high = UInt32(bytes[place + 2]) | UInt32(bytes[place + 3]) << 8
    return low | high << 16
  }
}
