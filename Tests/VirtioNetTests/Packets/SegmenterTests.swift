import Support
import Testing

@testable import VirtioNet

@Suite struct SegmenterTests {
  /// Cuts a frame into as many batches as it takes.
  static func cut(
    _ frame: TestFrame, _ segmentation: NetHeader.Segmentation, size: Int, room: Int = 256 << 10
  ) throws -> [[UInt8]] {
    try cut(frame.partial, frame.header(segmentation, size: size), room: room)
  }

  static func cut(_ frame: [UInt8], _ header: NetHeader, room: Int = 256 << 10) throws -> [[UInt8]] {
    let bytes = [0xEE, 0xEE, 0xEE, 0xEE, 0xEE] + frame
    guard case .segments(let headers) = header.check(bytes, 5..<bytes.count, given: .all) else {
      throw Refused()
    }
    var segmenter = Segmenter(bytes, header, headers, identification: 0x1234_5678)
    var segments: [[UInt8]] = []
    var output = PacketBatch(byteCount: room)
    while !segmenter.isDone {
      segmenter.cut(bytes, into: &output)
      let count = output.count
      try #require(count > 0, "no progress")
      for index in 0..<count {
        #expect(output.header(index) == NetHeader())
        segments.append(Array(output.bytes[output.frame(index)]))
      }
      output.removeAll()
    }
    return segments
  }

  struct Refused: Error {}

  static func bytes(_ count: Int, _ random: inout SeededGenerator) -> [UInt8] {
    (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
  }

  @Test("5.1.6.2: a TCP packet becomes segments of gso_size that a receiver puts together again")
  func tcp() throws {
    var random = SeededGenerator(for: "SegmenterTests.tcp")
    for _ in 0..<150 {
      var frame = TestFrames.any(&random)
      frame.transport = .tcp
      frame.payload = Self.bytes(Int.random(in: 0...9000, using: &random), &random)
      let size = Int.random(in: 40...3000, using: &random)
      let segments = try Self.cut(frame, frame.isIP6 ? .tcp6 : .tcp4, size: size)
      #expect(segments.count == max(1, (frame.payload.count + size - 1) / size))
      var payload: [UInt8] = []
      for (number, segment) in segments.enumerated() {
        let packet = try #require(Reference.Packet(segment), "segment \(number)")
        #expect(packet.ethernet == frame.ethernet)
        #expect(packet.sequence == frame.sequence &+ UInt32(payload.count))
        #expect(segment.count <= frame.headersByteCount + size)
        if !frame.isIP6 { #expect(packet.identification == (Int(frame.identification) + number) & 0xFFFF) }
        let isLast = number == segments.count - 1
        let flags = frame.tcpFlags & ~(isLast ? 0 : 0x09) & ~(number == 0 ? 0 : 0x80)
        #expect(packet.flags == flags)
        payload += packet.payload
      }
      #expect(payload == frame.payload)
    }
  }

  @Test("5.1.6.2: USO makes datagrams of gso_size of one UDP packet")
  func datagrams() throws {
    var random = SeededGenerator(for: "SegmenterTests.datagrams")
    for _ in 0..<150 {
      var frame = TestFrames.any(&random)
      frame.transport = .udp
      frame.payload = Self.bytes(Int.random(in: 1...9000, using: &random), &random)
      let size = Int.random(in: 40...3000, using: &random)
      let packets = try Self.cut(frame, .udpDatagrams, size: size).map { try #require(Reference.Packet($0)) }
      #expect(packets.dropLast().allSatisfy { $0.payload.count == size })
      #expect(packets.flatMap { $0.payload } == frame.payload)
      #expect(packets.allSatisfy { $0.ethernet == frame.ethernet && !$0.isFragment })
      if !frame.isIP6 {
        #expect(packets.indices.allSatisfy { packets[$0].identification == (0xFFFE + $0) & 0xFFFF })
      }
    }
  }

  @Test("RFC 791, RFC 8200 4.5: UFO makes fragments of one datagram, whose checksum holds")
  func fragments() throws {
    var random = SeededGenerator(for: "SegmenterTests.fragments")
    for _ in 0..<150 {
      var frame = TestFrames.any(&random)
      frame.transport = .udp
      frame.payload = Self.bytes(Int.random(in: 0...9000, using: &random), &random)
      let size = Int.random(in: 40...3000, using: &random)
      let packets = try Self.cut(frame, .udpFragments, size: size).map { try #require(Reference.Packet($0)) }
      var whole = packets[0]
      for packet in packets.dropFirst() {
        #expect(packet.fragmentOffset == whole.body.count)
        #expect(packet.identification == whole.identification)
        whole.body += packet.body
      }
      #expect(packets.indices.allSatisfy { packets[$0].hasMoreFragments == ($0 != packets.count - 1) })
      #expect(packets.allSatisfy { $0.ethernet == frame.ethernet && $0.body.count <= size })
      #expect(whole.checksumHolds)
      #expect(whole.payload == frame.payload)
      #expect(packets.count == 1 || whole.identification == (frame.isIP6 ? 0x1234_5678 : 0xFFFE))
    }
  }

  @Test("A packet that needs no cut is one segment, complete")
  func whole() throws {
    let payload: [UInt8] = [1, 2, 3, 4, 5]
    let tcp = TestFrame.ip6(.tcp, payload: payload)
    #expect(try Self.cut(tcp, .tcp6, size: 5) == [tcp.complete])
    let udp = TestFrame.ip4(.udp, payload: payload)
    #expect(try Self.cut(udp, .udpDatagrams, size: 1000) == [udp.complete])
    #expect(try Self.cut(udp, .udpFragments, size: 13) == [udp.complete])
  }

  @Test("A length that the driver left out is put in", arguments: [100, 2000])
  func noLength(size: Int) throws {
    let payload = [UInt8](repeating: 0x5A, count: 1000)
    for (segmentation, frame) in [
      (NetHeader.Segmentation.udpDatagrams, TestFrame.ip4(.udp, payload: payload)),
      (.udpFragments, .ip6(.udp, payload: payload)), (.udpFragments, .ip4(.udp, payload: payload)),
    ] {
      var bytes = frame.partial
      for place in [frame.isIP6 ? 18 : 16, frame.ethernet.count + frame.ip.count + 4] {
        bytes.replaceSubrange(place..<place + 2, with: [0, 0])
      }
      let expected = try Self.cut(frame, segmentation, size: size)
      #expect(try Self.cut(bytes, frame.header(segmentation, size: size)) == expected)
    }
  }

  @Test("Padding behind the packet is in no segment")
  func padding() throws {
    let frame = TestFrame.ip4(.tcp, payload: [1, 2, 3])
    #expect(try Self.cut(frame.partial + [0, 0, 0], frame.header(.tcp4, size: 100)) == [frame.complete])
  }

  @Test("The longest packets, in the shortest segments and the smallest batch")
  func longest() throws {
    var random = SeededGenerator(for: "SegmenterTests.longest")
    for (segmentation, size) in [(NetHeader.Segmentation.tcp4, 48), (.tcp4, 536), (.tcp4, 0xFFFF)] {
      let frame = TestFrame.ip4(.tcp, payload: Self.bytes(65535 - 40, &random))
      let segments = try Self.cut(frame, segmentation, size: size, room: 0)
      #expect(segments.count == (65495 + size - 1) / size)
      #expect(try segments.flatMap { try #require(Reference.Packet($0)).payload } == frame.payload)
    }
    for size in [48, 1480, 0xFFF8, 0xFFFF] {
      var frame = TestFrame.ip6(.udp, payload: Self.bytes(65487, &random))
      frame.tags = [(0x88A8, 1), (0x8100, 2)]
      let packets = try Self.cut(frame, .udpFragments, size: size, room: 0).map { try #require(Reference.Packet($0)) }
      #expect(packets.flatMap { $0.body }.count == 65495)
    }
  }
}
