import Support
import Testing

@testable import VirtioNet

@Suite struct InternetChecksumTests {
  @Test("RFC 1071, 3: the numerical example")
  func example() {
    var checksum = InternetChecksum()
    checksum.add([0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7], 0..<8)
    #expect(checksum.folded == 0xDDF2)
    #expect(checksum.value == 0x220D)
  }

  @Test("RFC 791: the header of a real datagram has the checksum that is computed of it")
  func realHeader() {
    var header: [UInt8] = [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xB8, 0x61, 192, 168, 0, 1, 192, 168, 0, 199]
    var checksum = InternetChecksum()
    checksum.add(header, 0..<20)
    #expect(checksum.folded == 0xFFFF)
    header.setBigEndian16(0, at: 10)
    checksum = InternetChecksum()
    checksum.add(header, 0..<20)
    #expect(checksum.value == 0xB861)
  }

  @Test("Every length and place gives the sum that two bytes at a time give")
  func everyLength() {
    var random = SeededGenerator(for: "InternetChecksumTests.everyLength")
    let bytes = (0..<400).map { _ in random.once(in: 3) ? 0xFF : UInt8.random(in: 0...255, using: &random) }
    for count in 0..<300 {
      let start = Int.random(in: 0...100, using: &random)
      var checksum = InternetChecksum()
      checksum.add(bytes, start..<start + count)
      #expect(checksum.folded == Reference.sum(Array(bytes[start..<start + count])), "\(count) bytes at \(start)")
    }
  }

  @Test("The sum of the largest frame does not overflow")
  func largest() {
    let bytes = [UInt8](repeating: 0xFF, count: 65557)
    var checksum = InternetChecksum()
    checksum.add(bytes, 0..<bytes.count)
    #expect(checksum.folded == Reference.sum(bytes))
  }

  @Test("What is added and subtracted leaves the sum as it was")
  func subtract() {
    var random = SeededGenerator(for: "InternetChecksumTests.subtract")
    for _ in 0..<100 {
      let number = UInt16.random(in: 0...0xFFFF, using: &random)
      var checksum = InternetChecksum()
      checksum.add(0x1234)
      checksum.add(number)
      checksum.subtract(number)
      #expect(checksum.folded == 0x1234)
    }
  }

  @Test("RFC 768: a UDP checksum of zero becomes 0xFFFF")
  func zero() {
    var checksum = InternetChecksum()
    checksum.add(0xFFFF)
    #expect(checksum.value == 0)
    #expect(checksum.transportValue == 0xFFFF)
  }
}
