import Testing

@testable import VirtioNet

@Suite struct NetHeaderTests {
  @Test("5.1.6: a header is the same after it was stored and read")
  func roundTrip() throws {
    var header = NetHeader()
    header.flags = [.needsChecksum]
    header.segmentation = .tcp6
    header.hasCongestionBit = true
    header.headersByteCount = 74
    header.segmentByteCount = 1440
    header.checksumStart = 54
    header.checksumOffset = 16
    header.bufferCount = 3
    var bytes = [UInt8](repeating: 0xEE, count: 14)
    header.store(in: &bytes, at: 1)
    #expect(bytes == [0xEE, 1, 0x84, 74, 0, 0xA0, 0x05, 54, 0, 16, 0, 3, 0, 0xEE])
    #expect(NetHeader(bytes, at: 1) == header)
  }

  @Test("5.1.6: a gso_type that is not known is refused", arguments: [2, 6, 0x20, 0x7F] as [UInt8])
  func unknownKind(kind: UInt8) {
    #expect(NetHeader([0, kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], at: 0) == nil)
  }
}
