/// What one has to know of a program before it is given to a guest without libraries.
enum ELFProgram {
  private static let magic: [UInt8] = [0x7F, 0x45, 0x4C, 0x46]
  private static let is64Bit: UInt8 = 2
  private static let isLittleEndian: UInt8 = 1
  /// `PT_INTERP`: names the loader of a program that has shared libraries.
  private static let interpreterSegment: UInt64 = 3

  /// Whether the bytes are a 64-bit program that asks for no loader.
  static func isStatic(_ bytes: [UInt8]) -> Bool {
    guard bytes.count >= 64, Array(bytes[0..<4]) == magic, bytes[4] == is64Bit, bytes[5] == isLittleEndian else {
      return false
    }
    guard let table = Int(exactly: integer(8, at: 32, of: bytes)) else { return false }
    let (size, count) = (Int(integer(2, at: 54, of: bytes)), Int(integer(2, at: 56, of: bytes)))
    guard size >= 4, table <= bytes.count, size * count <= bytes.count - table else { return false }
    return !(0..<count).contains { integer(4, at: table + $0 * size, of: bytes) == interpreterSegment }
  }

  private static func integer(_ byteCount: Int, at offset: Int, of bytes: [UInt8]) -> UInt64 {
    bytes[offset..<offset + byteCount].reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }
}
