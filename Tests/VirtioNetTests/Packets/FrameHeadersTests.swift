import Support
import Testing

@testable import VirtioNet

@Suite struct FrameHeadersTests {
  static func headers(_ bytes: [UInt8]) -> FrameHeaders? { FrameHeaders(bytes, 0..<bytes.count) }

  @Test("The parts of a plain TCP frame, wherever it lies")
  func plain() throws {
    let frame = TestFrame.ip4(.tcp, payload: [1, 2, 3]).complete
    let bytes = [UInt8](repeating: 0xEE, count: 7) + frame + [0xEE]
    let headers = try #require(FrameHeaders(bytes, 7..<7 + frame.count))
    #expect(headers.destination(in: bytes).rawValue == 0x5254_0000_0002)
    #expect(headers.source(in: bytes).rawValue == 0x5254_0000_0001)
    #expect(headers.tagCount == 0 && headers.outerTag == nil)
    #expect(headers.etherType == 0x0800)
    #expect(headers.network == .ip4)
    #expect(headers.networkStart == 7 + 14)
    #expect(headers.transport == .tcp)
    #expect(headers.transportStart == 7 + 34)
    #expect(headers.payloadStart == 7 + 54)
    #expect(headers.packetEnd == 7 + 57)
    #expect(!headers.isFragment && !headers.hasExtensions)
  }

  @Test("A frame shorter than an Ethernet header is none", arguments: 0..<14)
  func tooShort(count: Int) {
    #expect(FrameHeaders([UInt8](repeating: 0, count: 14), 0..<count) == nil)
  }

  @Test("A frame longer than any is none")
  func tooLong() {
    let longest = PacketBatch.largestFrameByteCount
    let bytes = [UInt8](repeating: 0, count: longest + 1)
    #expect(FrameHeaders(bytes, 1..<longest + 1) != nil && FrameHeaders(bytes, 0..<longest + 1) == nil)
  }

  @Test("802.1Q, 802.1ad: two tags are looked behind, and not a third")
  func tags() throws {
    var frame = TestFrame.ip6(.udp, payload: [1])
    frame.tags = [(0x8100, 0x6007)]
    var headers = try #require(Self.headers(frame.complete))
    #expect(headers.tagCount == 1 && headers.outerTag == 0x6007 && headers.innerTag == nil)
    #expect(headers.transport == .udp && headers.payloadStart == 18 + 40 + 8)
    frame.tags = [(0x88A8, 5), (0x8100, 0xFFF)]
    headers = try #require(Self.headers(frame.complete))
    #expect(headers.tagCount == 2 && headers.outerTag == 5 && headers.innerTag == 0xFFF)
    #expect(headers.transport == .udp && headers.payloadStart == 22 + 40 + 8)
    frame.tags.append((0x8100, 1))
    headers = try #require(Self.headers(frame.complete))
    #expect(headers.tagCount == 2 && headers.etherType == 0x8100 && headers.network == nil)
  }

  @Test("A tag that is cut off is none")
  func cutTag() throws {
    let headers = try #require(Self.headers([UInt8](repeating: 0, count: 12) + [0x81, 0, 0, 1]))
    #expect(headers.tagCount == 0 && headers.etherType == 0x8100)
  }

  @Test("RFC 791: options belong to the header")
  func options() throws {
    var frame = TestFrame.ip4(.tcp, payload: [1])
    frame.options = [UInt8](repeating: 1, count: 40)
    frame.tcpOptions = [UInt8](repeating: 1, count: 12)
    let headers = try #require(Self.headers(frame.complete))
    #expect(headers.transportStart == 14 + 60)
    #expect(headers.payloadStart == 14 + 60 + 32)
  }

  @Test("Padding of a frame is not part of its packet")
  func padding() throws {
    let frame = TestFrame.ip4(.udp, payload: [1]).complete
    let headers = try #require(Self.headers(frame + [0, 0, 0]))
    #expect(headers.packetEnd == frame.count)
    #expect(headers.transport == .udp)
  }

  @Test("A packet that says no length, as one that is to be cut may, ends with its frame")
  func noLength() throws {
    for var frame in [TestFrame.ip4(.tcp, payload: [1, 2]).complete, TestFrame.ip6(.tcp, payload: [1, 2]).complete] {
      let place = frame[12] == 0x86 ? 18 : 16
      frame.replaceSubrange(place..<place + 2, with: [0, 0])
      let headers = try #require(Self.headers(frame))
      #expect(headers.transport == .tcp && headers.packetEnd == frame.count)
    }
  }

  @Test(
    "RFC 791: what an IPv4 header cannot say makes it none",
    arguments: [
      (14, 0x55), (14, 0x44), (14, 0x4F), (16, 0xFF), (17, 19), (17, 255),
    ])
  func wrongIP4(place: Int, value: Int) throws {
    var frame = TestFrame.ip4(.tcp, payload: [1, 2, 3]).complete
    frame[place] = UInt8(value)
    let headers = try #require(Self.headers(frame))
    #expect(headers.network == nil && headers.transport == nil && headers.transportStart == 14)
  }

  @Test("RFC 9293, RFC 768: a transport header that is cut off or too long is none")
  func wrongTransport() throws {
    var frame = TestFrame.ip4(.tcp, payload: [1]).complete
    for offset: UInt8 in [0x00, 0x40, 0x60, 0xF0] {
      frame[46] = offset
      #expect(try #require(Self.headers(frame)).transport == nil)
    }
    frame = TestFrame.ip6(.udp, payload: [1]).complete
    for length: UInt8 in [1, 7, 10, 255] {
      frame[59] = length
      #expect(try #require(Self.headers(frame)).transport == nil)
    }
  }

  @Test("RFC 791: every fragment is one, and none has a transport")
  func fragments() throws {
    var frame = TestFrame.ip4(.udp, payload: [1])
    for flags: UInt16 in [0x2000, 0x2010, 0x0010, 0x6000] {
      frame.ip4Flags = flags
      let headers = try #require(Self.headers(frame.complete))
      #expect(headers.isFragment && headers.transport == nil && headers.network == .ip4)
    }
  }

  @Test("RFC 8200: extension headers are stepped over")
  func extensions() throws {
    var frame = TestFrame.ip6(.tcp, payload: [1])
    frame.extensions = [
      (0, [0, 1, 4, 0, 0, 0, 0]), (60, [0, 1, 4, 0, 0, 0, 0]),
      (43, [2, 2, 1, 0, 0, 0, 0] + [UInt8](repeating: 9, count: 16)),
      (60, [2, 0, 1, 0, 0xC9, 16] + [UInt8](repeating: 8, count: 16) + [0]),
    ]
    let bytes = frame.complete
    let headers = try #require(Self.headers(bytes))
    #expect(headers.hasExtensions && headers.transport == .tcp)
    #expect(headers.transportStart == 54 + 8 + 8 + 24 + 24)
    #expect(bytes[headers.protocolPlace] == 6)
    #expect(headers.routedAddressPlace == 54 + 16 + 8)
    #expect(headers.homeAddressPlace == 54 + 16 + 24 + 7)
  }

  @Test("RFC 8200: behind a fragment header there is no transport")
  func fragmentHeader() throws {
    var frame = TestFrame.ip6(.udp, payload: [1])
    frame.extensions = [(44, [0, 0, 1, 0, 0, 0, 7])]
    let headers = try #require(Self.headers(frame.complete))
    #expect(headers.isFragment && headers.hasExtensions && headers.transport == nil)
    #expect(headers.transportStart == 62)
  }

  @Test("There is an end to extension headers")
  func manyExtensions() throws {
    var frame = TestFrame.ip6(.tcp)
    frame.extensions = Array(repeating: (60, [0, 1, 4, 0, 0, 0, 0]), count: FrameHeaders.largestExtensionCount)
    #expect(try #require(Self.headers(frame.complete)).transport == .tcp)
    frame.extensions.append((60, [0, 1, 4, 0, 0, 0, 0]))
    #expect(try #require(Self.headers(frame.complete)).transport == nil)
  }

  @Test("Extension headers and options that say too much are not read")
  func wrongExtensions() throws {
    var frame = TestFrame.ip6(.tcp)
    frame.extensions = [(60, [40, 1, 4, 0, 0, 0, 0])]
    #expect(try #require(Self.headers(frame.complete)).transport == nil)
    frame.extensions = [(60, [0, 0xC9, 16, 0, 0, 0, 0])]
    let headers = try #require(Self.headers(frame.complete))
    #expect(headers.homeAddressPlace == nil && headers.transport == .tcp)
  }

  @Test("Whatever a frame says, every part lies inside it and in order")
  func garbage() throws {
    var random = SeededGenerator(for: "FrameHeadersTests.garbage")
    let hash = FlowHash(key: FlowHashTests.key)
    for _ in 0..<10_000 {
      var bytes = TestFrames.any(&random).complete
      for _ in 0..<Int.random(in: 0...6, using: &random) {
        bytes[Int.random(in: 12..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      bytes.removeLast(Int.random(in: 0...bytes.count - 14, using: &random))
      let headers = try #require(Self.headers(bytes))
      let places = [14, headers.networkStart, headers.transportStart, headers.payloadStart, headers.packetEnd]
      #expect(places == places.sorted() && headers.packetEnd <= bytes.count)
      for place in [headers.homeAddressPlace, headers.routedAddressPlace].compactMap({ $0 }) {
        #expect(place + 16 <= headers.transportStart)
      }
      #expect((hash.hash(bytes, headers, types: .all) != nil) == (headers.network != nil))
    }
  }
}

/// Random frames.
enum TestFrames {
  /// Any kind of right frame.
  static func any(_ random: inout SeededGenerator, payload: Int = 64) -> TestFrame {
    let transport: TestFrame.Transport = random.once(in: 2) ? .tcp : .udp
    let bytes = (0..<Int.random(in: 0...payload, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
    var frame = random.once(in: 2) ? TestFrame.ip4(transport, payload: bytes) : .ip6(transport, payload: bytes)
    frame.tags = Array([(0x88A8, 100), (0x8100, 7)].suffix(Int.random(in: 0...2, using: &random)))
    frame.tcpFlags = UInt8.random(in: 0...255, using: &random)
    frame.sequence = UInt32.random(in: 0...UInt32.max, using: &random)
    frame.tcpOptions = [UInt8](repeating: 1, count: 4 * Int.random(in: 0...10, using: &random))
    frame.options = [UInt8](repeating: 1, count: 4 * Int.random(in: 0...10, using: &random))
    let extensions: [(kind: UInt8, rest: [UInt8])] = [
      (0, [0, 1, 4, 0, 0, 0, 0]), (43, [2, 2, 0, 0, 0, 0, 0] + [UInt8](repeating: 9, count: 16)),
      (60, [2, 1, 2, 0, 0, 0xC9, 16] + [UInt8](repeating: 8, count: 16)),
    ]
    frame.extensions = extensions.filter { _ in random.once(in: 2) }
    return frame
  }
}
