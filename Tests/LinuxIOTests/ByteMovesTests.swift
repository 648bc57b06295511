import LinuxIO
import Testing

@Suite("Byte moves in lent bytes") struct ByteMovesTests {
  private let bytes = [UInt8](1...20)

  @Test("integers are read and written little-endian at any offset, and nothing beside them changes")
  func integers() {
    var target = [UInt8](repeating: 0, count: 12)
    var span = target.mutableSpan
    span.setLittleEndian(bytes.span.littleEndian(UInt64.self, at: 3), at: 1)
    let word = span.littleEndian(UInt16.self, at: 8)
    #expect(word == 0x000B)
    #expect(target == [0, 4, 5, 6, 7, 8, 9, 10, 11, 0, 0, 0])
    #expect(bytes.span.littleEndian(UInt128.self, at: 4) == 0x1413_1211_100F_0E0D_0C0B_0A09_0807_0605)
  }

  @Test("a part is copied or cleared, up to the ends and when it is empty")
  func parts() {
    var target = [UInt8](repeating: 9, count: 6)
    var span = target.mutableSpan
    span.copy(17..<20, of: bytes.span, to: 3)
    span.copy(20..<20, of: bytes.span, to: 6)
    span.clear(0..<2)
    span.clear(6..<6)
    #expect(target == [0, 0, 9, 18, 19, 20])
  }
}
