import Support
import Testing

@testable import VirtioNet

@Suite struct HeaderCheckTests {
  static let payload = [UInt8](repeating: 7, count: 3000)

  static func check(
    _ frame: TestFrame, _ header: NetHeader, given: Offloads = .all
  ) -> HeaderCheck {
    let bytes = frame.partial
    return header.check(bytes, 0..<bytes.count, given: given)
  }

  @Test("5.1.6.2: a header that asks for nothing is right, whatever its other fields say")
  func plain() {
    var header = NetHeader()
    header.headersByteCount = 0xFFFF
    header.segmentByteCount = 1
    header.checksumStart = 0xFFFF
    #expect(Self.check(.ip4(.tcp), header, given: []) == .complete)
    header.flags = [.dataValid, .coalescingInfo, NetHeader.Flags(rawValue: 0x80)]
    #expect(Self.check(.ip4(.tcp), header, given: []) == .complete)
  }

  @Test("A frame has room for an Ethernet header, and no more than the longest packet")
  func frameLength() {
    let bytes = [UInt8](repeating: 0, count: PacketBatch.largestFrameByteCount + 1)
    #expect(NetHeader().check(bytes, 0..<13, given: []) == .wrong(.tooShort))
    #expect(NetHeader().check(bytes, 0..<14, given: []) == .complete)
    #expect(NetHeader().check(bytes, 1..<bytes.count, given: []) == .complete)
    #expect(NetHeader().check(bytes, 0..<bytes.count, given: []) == .wrong(.tooLong))
  }

  @Test("5.1.6.2: a checksum lies inside the frame, behind the Ethernet header")
  func checksumPlace() {
    let frame = TestFrame.ip4(.udp)
    let end = UInt16(frame.partial.count)
    var header = frame.header()
    for (start, offset) in [(34, 6), (14, 0), (end - 2, 0), (14, end - 16)] as [(UInt16, UInt16)] {
      (header.checksumStart, header.checksumOffset) = (start, offset)
      #expect(Self.check(frame, header) == .checksum)
    }
    for (start, offset) in [(13, 6), (end - 1, 0), (14, end - 15), (0xFFFF, 0xFFFF)] as [(UInt16, UInt16)] {
      (header.checksumStart, header.checksumOffset) = (start, offset)
      #expect(Self.check(frame, header) == .wrong(.badHeader))
    }
  }

  @Test("5.1.6.2.1: a checksum needs VIRTIO_NET_F_CSUM")
  func checksumNotNegotiated() {
    #expect(Self.check(.ip4(.udp), TestFrame.ip4(.udp).header(), given: []) == .wrong(.notNegotiated))
  }

  static let kinds: [(NetHeader.Segmentation, TestFrame, Offloads)] = [
    (.tcp4, .ip4(.tcp, payload: payload), .tcp4), (.tcp6, .ip6(.tcp, payload: payload), .tcp6),
    (.udpDatagrams, .ip4(.udp, payload: payload), .udp4), (.udpDatagrams, .ip6(.udp, payload: payload), .udp6),
    (.udpFragments, .ip4(.udp, payload: payload), .udpFragments),
    (.udpFragments, .ip6(.udp, payload: payload), .udpFragments),
  ]

  @Test("5.1.6.2.1: each kind of segmentation needs its own feature and its own kind of packet")
  func segmentation() {
    for (segmentation, frame, offload) in Self.kinds {
      let header = frame.header(segmentation, size: 1000)
      guard case .segments(let headers) = Self.check(frame, header, given: [.checksum, offload]) else {
        Issue.record("\(segmentation) is refused")
        continue
      }
      #expect(headers.payloadStart == frame.headersByteCount)
      #expect(Self.check(frame, header, given: .all.subtracting(offload)) == .wrong(.notNegotiated))
      for (other, otherFrame, _) in Self.kinds where other != segmentation {
        let matches = otherFrame.transport == frame.transport && segmentation != .tcp4 && segmentation != .tcp6
        guard !matches else { continue }
        #expect(Self.check(otherFrame, otherFrame.header(segmentation, size: 1000)) == .wrong(.badHeader))
      }
    }
  }

  @Test("5.1.6.2.1: segmentation needs NEEDS_CSUM, a size, and the checksum of the transport header")
  func segmentationFields() {
    for (segmentation, frame, _) in Self.kinds {
      let right = frame.header(segmentation, size: 1000)
      var header = right
      header.flags = []
      #expect(Self.check(frame, header) == .wrong(.badHeader))
      header = right
      header.segmentByteCount = 0
      #expect(Self.check(frame, header) == .wrong(.badHeader))
      header = right
      header.checksumStart += 1
      #expect(Self.check(frame, header) == .wrong(.badHeader))
      header = right
      header.checksumOffset += 2
      #expect(Self.check(frame, header) == .wrong(.badHeader))
      header = right
      header.headersByteCount = 0xFFFF
      #expect(Self.check(frame, header) == Self.check(frame, right))
    }
  }

  @Test("5.1.6.2.1: the congestion bit is TCP's, and needs its own feature")
  func congestion() {
    for (segmentation, frame, _) in Self.kinds {
      var header = frame.header(segmentation, size: 1000)
      let without = Self.check(frame, header)
      header.hasCongestionBit = true
      if frame.transport == .tcp {
        #expect(Self.check(frame, header) == without)
        #expect(Self.check(frame, header, given: .all.subtracting(.congestion)) == .wrong(.notNegotiated))
      } else {
        #expect(Self.check(frame, header) == .wrong(.badHeader))
      }
    }
  }

  @Test("Fragments are not cut again")
  func fragment() {
    var frame = TestFrame.ip4(.udp, payload: Self.payload)
    frame.ip4Flags = 0x2000
    #expect(Self.check(frame, frame.header(.udpFragments, size: 1000)) == .wrong(.badHeader))
    frame = .ip6(.udp, payload: Self.payload)
    frame.extensions = [(44, [0, 0, 0, 0, 0, 0, 7])]
    #expect(Self.check(frame, frame.header(.udpDatagrams, size: 1000)) == .wrong(.badHeader))
  }

  @Test("There is an end to the number of segments")
  func tooMany() {
    var frame = TestFrame.ip4(.tcp, payload: [UInt8](repeating: 7, count: 65535 - 40))
    #expect(Self.check(frame, frame.header(.tcp4, size: 47)) == .wrong(.badHeader))
    guard case .segments = Self.check(frame, frame.header(.tcp4, size: 48)) else {
      Issue.record("48 bytes are refused")
      return
    }
    frame.payload = [UInt8](repeating: 7, count: 100)
    guard case .segments = Self.check(frame, frame.header(.tcp4, size: 1)) else {
      Issue.record("100 segments of a byte are refused")
      return
    }
    let datagram = TestFrame.ip4(.udp, payload: Self.payload)
    #expect(Self.check(datagram, datagram.header(.udpFragments, size: 7)) == .wrong(.badHeader))
  }

  @Test("RFC 768: a completed checksum holds, and is never zero")
  func complete() throws {
    var random = SeededGenerator(for: "HeaderCheckTests.complete")
    for round in 0..<400 {
      var frame = TestFrames.any(&random, payload: 90)
      if round % 4 == 0, frame.transport == .udp {
        // Makes the sum come out as zero.
        frame.payload = [0, 0]
        frame.payload = big(~Reference.sum(big(frame.pseudoSum) + frame.segment))
      }
      var header = frame.header()
      var bytes = [0xEE, 0xEE, 0xEE] + frame.partial
      try #require(header.check(bytes, 3..<bytes.count, given: .checksum) == .checksum)
      header.completeChecksum(in: &bytes, 3..<bytes.count)
      #expect(header == NetHeader())
      #expect(bytes.count == frame.complete.count + 3)
      #expect(Reference.Packet(Array(bytes[3...])) != nil)
      if frame.transport == .udp { #expect(Array(bytes[3...]) == frame.complete) }
    }
  }
}
