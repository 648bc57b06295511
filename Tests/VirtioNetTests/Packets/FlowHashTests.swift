import Support
import Testing

@testable import VirtioNet

@Suite struct FlowHashTests {
  /// The key of the published vectors.
  static let key: [UInt8] = [
    0x6D, 0x5A, 0x56, 0xDA, 0x25, 0x5B, 0x0E, 0xC2, 0x41, 0x67, 0x25, 0x3D, 0x43, 0xA3, 0x8F, 0xB0, 0xD0, 0xCA, 0x2B,
    0xCB, 0xAE, 0x7B, 0x30, 0xB4, 0x77, 0xCB, 0x2D, 0xA3, 0x80, 0x30, 0xF2, 0x0C, 0x6A, 0x42, 0xB7, 0x3B, 0xBE, 0xAC,
    0x01, 0xFA,
  ]

  struct Vector: Sendable {
    var source: [UInt8]
    var sourcePort: UInt16
    var target: [UInt8]
    var targetPort: UInt16
    var addresses: UInt32
    var all: UInt32
  }

  /// "Verifying the RSS Hash Calculation", of the documentation of NDIS.
  static let vectors = [
    Vector(
      source: [66, 9, 149, 187], sourcePort: 2794, target: [161, 142, 100, 80], targetPort: 1766,
      addresses: 0x323E_8FC2, all: 0x51CC_C178),
    Vector(
      source: [199, 92, 111, 2], sourcePort: 14230, target: [65, 69, 140, 83], targetPort: 4739,
      addresses: 0xD718_262A, all: 0xC626_B0EA),
    Vector(
      source: [24, 19, 198, 95], sourcePort: 12898, target: [12, 22, 207, 184], targetPort: 38024,
      addresses: 0xD2D0_A5DE, all: 0x5C2B_394A),
    Vector(
      source: [38, 27, 205, 30], sourcePort: 48228, target: [209, 142, 163, 6], targetPort: 2217,
      addresses: 0x8298_9176, all: 0xAFC7_327F),
    Vector(
      source: [153, 39, 163, 191], sourcePort: 44251, target: [202, 188, 127, 2], targetPort: 1303,
      addresses: 0x5D18_09C5, all: 0x10E8_28A2),
    Vector(
      source: words(0x3FFE, 0x2501, 0x200, 0x1FFF, 0, 0, 0, 7), sourcePort: 2794,
      target: words(0x3FFE, 0x2501, 0x200, 3, 0, 0, 0, 1), targetPort: 1766,
      addresses: 0x2CC1_8CD5, all: 0x4020_7D3D),
    Vector(
      source: words(0x3FFE, 0x501, 8, 0, 0x260, 0x97FF, 0xFE40, 0xEFAB), sourcePort: 14230,
      target: words(0xFF02, 0, 0, 0, 0, 0, 0, 1), targetPort: 4739,
      addresses: 0x0F0C_461C, all: 0xDDE5_1BBF),
    Vector(
      source: words(0x3FFE, 0x1900, 0x4545, 3, 0x200, 0xF8FF, 0xFE21, 0x67CF), sourcePort: 44251,
      target: words(0xFE80, 0, 0, 0, 0x200, 0xF8FF, 0xFE21, 0x67CF), targetPort: 38024,
      addresses: 0x4B61_E985, all: 0x02D1_FEEF),
  ]

  static func words(_ words: UInt16...) -> [UInt8] { words.flatMap { big($0) } }

  static func frame(_ vector: Vector, _ transport: TestFrame.Transport) -> TestFrame {
    var frame = vector.source.count == 16 ? TestFrame.ip6(transport) : TestFrame.ip4(transport)
    frame.source = vector.source
    frame.target = vector.target
    frame.ports = big(vector.sourcePort) + big(vector.targetPort)
    return frame
  }

  static func hash(_ frame: TestFrame, _ types: HashTypes, key: [UInt8] = key) -> (value: UInt32, report: HashReport)? {
    let bytes = frame.complete
    return FrameHeaders(bytes, 0..<bytes.count).flatMap { FlowHash(key: key).hash(bytes, $0, types: types) }
  }

  @Test("5.1.6.4.3: the published vectors", arguments: vectors)
  func published(vector: Vector) throws {
    let isIP6 = vector.source.count == 16
    let frame = Self.frame(vector, .tcp)
    let addresses = try #require(Self.hash(frame, isIP6 ? .ip6 : .ip4))
    #expect(addresses == (vector.addresses, isIP6 ? .ip6 : .ip4))
    let ports = try #require(Self.hash(frame, isIP6 ? [.ip6, .tcp6] : [.ip4, .tcp4]))
    #expect(ports == (vector.all, isIP6 ? .tcp6 : .tcp4))
    let datagram = try #require(Self.hash(Self.frame(vector, .udp), .all))
    #expect(datagram == (vector.all, isIP6 ? .udp6 : .udp4))
  }

  @Test("5.1.6.4.3: what no enabled type is for has no hash")
  func notEnabled() {
    #expect(Self.hash(.ip4(.tcp), [.udp4, .ip6, .tcp6, .udp6]) == nil)
    #expect(Self.hash(.ip4(.udp), [.tcp4]) == nil)
    #expect(Self.hash(.ip6(.udp), [.ip4, .tcp6, .ip6Extended, .udp6Extended]) == nil)
    #expect(Self.hash(.ip4(.tcp), []) == nil)
  }

  @Test("5.1.6.4.3: a fragment is hashed over its addresses, whichever it is")
  func fragment() throws {
    var frame = Self.frame(Self.vectors[0], .udp)
    for flags: UInt16 in [0x2000, 0x2001, 1] {
      frame.ip4Flags = flags
      #expect(try #require(Self.hash(frame, .all)) == (Self.vectors[0].addresses, .ip4))
    }
  }

  @Test("5.1.6.4.3: home address and routing header of type 2 take the place of the addresses")
  func extended() throws {
    let vector = Self.vectors[5]
    var frame = TestFrame.ip6(.tcp)
    frame.ports = big(vector.sourcePort) + big(vector.targetPort)
    frame.extensions = [(43, [2, 2, 1, 0, 0, 0, 0] + vector.target), (60, [2, 1, 2, 0, 0, 0xC9, 16] + vector.source)]
    #expect(try #require(Self.hash(frame, .all)) == (vector.all, .tcp6Extended))
    #expect(try #require(Self.hash(frame, [.ip6Extended, .tcp6])) == (vector.addresses, .ip6Extended))
    let plain = try #require(Self.hash(frame, [.tcp6, .udp6Extended]))
    #expect(plain.report == .tcp6)
    #expect(plain.value == Reference.toeplitz(Self.key, frame.source + frame.target + frame.ports))
    frame.transport = .udp
    #expect(try #require(Self.hash(frame, .all)) == (vector.all, .udp6Extended))
  }

  @Test("5.1.6.4.3: without their options, packets with extension headers are hashed over their addresses")
  func extendedWithout() throws {
    var frame = Self.frame(Self.vectors[5], .tcp)
    frame.extensions = [(0, [0, 1, 4, 0, 0, 0, 0])]
    #expect(try #require(Self.hash(frame, .all)) == (Self.vectors[5].all, .tcp6Extended))
    #expect(try #require(Self.hash(frame, [.ip6])) == (Self.vectors[5].addresses, .ip6))
  }

  @Test("5.1.6.4.3: any key hashes as it does bit by bit", arguments: [0, 1, 16, 39, 40, 41, 52])
  func anyKey(byteCount: Int) throws {
    var random = SeededGenerator(for: "FlowHashTests.anyKey")
    let key = (0..<byteCount).map { _ in UInt8.random(in: 0...255, using: &random) }
    for _ in 0..<20 {
      var frame = TestFrame.ip6(.udp)
      frame.source = (0..<16).map { _ in UInt8.random(in: 0...255, using: &random) }
      frame.target = (0..<16).map { _ in UInt8.random(in: 0...255, using: &random) }
      let expected = Reference.toeplitz(key, frame.source + frame.target + frame.ports)
      #expect(try #require(Self.hash(frame, .all, key: key)).value == expected)
    }
  }

  @Test("5.1.6.4.5: a type is the bit below its report")
  func bits() {
    #expect(HashTypes.ip4.rawValue == 1)
    #expect(HashTypes.udp6Extended.rawValue == 256)
    #expect(HashTypes(.none).isEmpty)
    for number: UInt16 in 1...9 {
      #expect(HashReport(rawValue: number).map { HashTypes($0).rawValue } == 1 << UInt32(number - 1))
    }
  }
}
