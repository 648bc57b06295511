import GuestRAM
import Support
import Testing
import VirtioCore
import Virtqueue

@testable import VirtioNet

@Suite("Net: what is left undone, through the whole card")
struct NetOffloadTests {
  private static let payload = (0..<3000).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 / 256) }

  /// A frame to be cut, and how.
  struct Large: Sendable, CustomTestStringConvertible {
    var segmentation: NetHeader.Segmentation
    var isIP6: Bool
    var testDescription: String { "\(segmentation) over \(isIP6 ? "IPv6" : "IPv4")" }

    func frame(_ payload: [UInt8]) -> TestFrame {
      let transport = segmentation == .udpDatagrams ? TestFrame.Transport.udp : .tcp
      return isIP6 ? .ip6(transport, payload: payload) : .ip4(transport, payload: payload)
    }

    func packet(_ payload: [UInt8], size: Int) -> ScriptedPort.Packet {
      let frame = frame(payload)
      return ScriptedPort.Packet(header: frame.header(segmentation, size: size), frame: frame.partial)
    }

    static let all = [
      Large(segmentation: .tcp4, isIP6: false), Large(segmentation: .tcp6, isIP6: true),
      Large(segmentation: .udpDatagrams, isIP6: false), Large(segmentation: .udpDatagrams, isIP6: true),
    ]
  }

  /// The payload of frames of one flow that any receiver takes; nil when one of them is wrong.
  private func joined(_ frames: [[UInt8]]) -> [UInt8]? {
    var payload: [UInt8] = []
    for frame in frames {
      guard let packet = Reference.Packet(frame) else { return nil }
      if packet.proto == 6 {
        guard packet.sequence == 0xFFFF_FF00 &+ UInt32(payload.count) else { return nil }
      }
      payload += packet.payload
    }
    return payload
  }

  /// The frames that the driver gets, in buffers of a size, offered a few at a time.
  private func received(
    _ bench: inout NetBench, bufferByteCount: Int, atOnce: Int, header: Int = 12
  ) throws -> [[UInt8]] {
    var frames: [[UInt8]] = []
    var isOver = false
    while !isOver {
      let start = try bench.offer(atOnce, of: bufferByteCount)
      bench.host.kick(0)
      let used = try bench.rings[0].takeAllUsed().map { Int($0.byteCount) }
      var index = 0
      while index < used.count {
        let place = start + UInt64(index * bufferByteCount)
        let count = header == 12 ? Int(try bench.bytes(1, at: place + 10)[0]) : 1
        let (low, high) = (index, index + count)
        let parts = try (low..<high).map { try bench.bytes(used[$0], at: start + UInt64($0 * bufferByteCount)) }
        let whole = parts.flatMap { $0 }
        #expect(whole[..<10].allSatisfy { $0 == 0 }, "nothing is left to be done")
        frames.append(Array(whole[header...]))
        index = high
      }
      isOver = used.count < atOnce
    }
    return frames
  }

  @Test("5.1.6.4: a driver that takes nothing undone gets segments with right checksums", arguments: Large.all)
  func received(large: Large) throws {
    let packet = large.packet(Self.payload, size: 900)
    let cases: [(Features, Int, Int)] = [
      ([], 1600, 10), ([.version1], 1600, 12), ([.version1, .netMergeableBuffers], 1600, 12),
      ([.version1, .netMergeableBuffers], 200, 12),
    ]
    for (features, bufferByteCount, header) in cases {
      let port = ScriptedPort()
      var bench = try NetBench.card(port)
      try bench.startWithoutStatus(features)
      let small = large.frame([1, 2, 3])
      port.waiting = [packet, ScriptedPort.Packet(header: small.header(), frame: small.partial)]
      let frames = try received(&bench, bufferByteCount: bufferByteCount, atOnce: 60, header: header)
      #expect(frames.count == 5)
      #expect(joined(frames.dropLast()) == Self.payload)
      #expect(frames.last == small.complete)
      #expect(bench.host.device.counters.drops == [:])
      #expect(bench.host.device.counters.receivedPackets == 5)
    }
  }

  @Test(
    "more segments than a batch holds reach a driver that offers few buffers at a time, in order", arguments: [7, 64])
  func manyReceived(atOnce: Int) throws {
    let port = ScriptedPort()
    var bench = try NetBench.card(port)
    try bench.start()
    let payload = (0..<60000).map { UInt8(truncatingIfNeeded: $0 / 61) }
    port.waiting = [Large.all[0].packet(payload, size: 400)]
    #expect(joined(try received(&bench, bufferByteCount: 500, atOnce: atOnce)) == payload)
    #expect(bench.host.device.counters.receivedPackets == 150)
  }

  @Test("5.1.6.5.8: what waits for buffers is cut for a driver that has meanwhile said that it takes nothing undone")
  func fewerOffloads() throws {
    let port = ScriptedPort()
    var bench = try NetBench.card(port)
    try bench.start(NetControlTests.all.subtracting([.netControlVLAN]))
    let payload = (0..<60000).map { UInt8(truncatingIfNeeded: $0 / 61) }
    port.waiting = [Large.all[0].packet(payload, size: 400)]
    bench.host.wake()
    #expect(port.waiting.isEmpty)
    #expect(try bench.command([5, 0] + little(UInt64(0))) == 0)
    #expect(joined(try received(&bench, bufferByteCount: 500, atOnce: 64)) == payload)
    #expect(bench.host.device.counters.drops == [:])
  }

  @Test("5.1.6.5.8: what is half cut then is dropped and counted, and what comes next is cut as the driver says")
  func fewerOffloadsHalfWay() throws {
    let port = ScriptedPort()
    var bench = try NetBench.card(port)
    let features = NetControlTests.all.subtracting([.netControlVLAN, .netGuestTSO4])
    try bench.start(features)
    let payload = (0..<60000).map { UInt8(truncatingIfNeeded: $0 / 61) }
    port.waiting = [Large.all[0].packet(payload, size: 400)]
    bench.host.wake()
    #expect(try bench.command([5, 0] + little(UInt64(0))) == 0)
    #expect(bench.host.device.counters.drops == [.notNegotiated: 65], "64 segments, and the packet that they are of")
    port.waiting = [Large.all[0].packet(Self.payload, size: 900)]
    bench.host.wake()
    #expect(joined(try received(&bench, bufferByteCount: 1600, atOnce: 60)) == Self.payload)
  }

  @Test("5.1.6.4: a driver that takes everything undone gets the packet whole, over buffers that hold it")
  func whole() throws {
    for features in [[.version1], [.version1, .netMergeableBuffers]] as [Features] {
      let port = ScriptedPort()
      var bench = try NetBench.card(port)
      try bench.start(features.union([.netGuestChecksum, .netGuestTSO4]))
      let packet = Large.all[0].packet(Self.payload, size: 900)
      port.waiting = [packet]
      let start = try bench.offer(1, of: 4096)
      bench.host.kick(0)
      #expect(try bench.rings[0].takeUsed()?.byteCount == UInt32(12 + packet.frame.count))
      var header = packet.header
      header.headersByteCount = 54
      header.bufferCount = 1
      #expect(NetHeader(try bench.bytes(12, at: start), at: 0) == header)
      #expect(try bench.bytes(packet.frame.count, at: start + 12) == packet.frame)
    }
  }

  private static let host: Features = [
    .version1, .netChecksum, .netHostTSO4, .netHostTSO6, .netHostECN, .netHostUSO,
  ]

  private func bytes(_ packet: ScriptedPort.Packet) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 12)
    packet.header.store(in: &bytes, at: 0)
    return bytes + packet.frame
  }

  @Test("5.1.6.2: for a port that takes nothing undone, the card cuts and completes", arguments: Large.all)
  func sent(large: Large) throws {
    let port = ScriptedPort()
    port.takenOffloads = []
    var bench = try NetBench.card(port)
    try bench.start(Self.host)
    try bench.transmit(bytes(large.packet(Self.payload, size: 900)))
    #expect(port.sent.count == 4)
    #expect(port.sent.allSatisfy { $0.header == NetHeader() })
    #expect(joined(port.sent.map(\.frame)) == Self.payload)
    #expect(bench.host.device.counters.transmittedPackets == 1)
  }

  @Test("a port that fills up half-way through a packet gets the rest later, and nothing is lost or reordered")
  func roomForSome() throws {
    let port = ScriptedPort()
    port.takenOffloads = []
    port.room = 0
    var bench = try NetBench.card(port)
    try bench.start(Self.host)
    let payload = (0..<30000).map { UInt8(truncatingIfNeeded: $0 / 61) }
    let marks = (0..<3).map { frame(byteCount: 60 + $0) }
    bench.host.pause()
    for slot in 0..<3 {
      try bench.transmit(bytes(Large.all[0].packet(payload, size: 200)), slot: UInt64(slot))
      try bench.transmit(plainHeader + marks[slot], slot: 3)
      bench.host.resume()
      bench.host.pause()
    }
    bench.host.resume()
    var rounds = 0
    while rounds < 1000, port.sent.count < 3 * 151 {
      port.room = [1, 7, 63, 64, 65][rounds % 5]
      bench.host.wake()
      rounds += 1
    }
    #expect(port.sent.count == 3 * 151)
    for (number, mark) in marks.enumerated() {
      let part = port.sent[(151 * number)..<(151 * (number + 1))].map(\.frame)
      #expect(joined(part.dropLast()) == payload)
      #expect(part.last == mark)
    }
    #expect(try bench.rings[1].takeAllUsed().count == 6)
    #expect(bench.host.device.counters.drops == [:])
  }

  @Test("what is still to be cut when the driver goes is counted, as what waits for a port is")
  func notCut() throws {
    let port = ScriptedPort()
    port.takenOffloads = []
    port.room = 0
    var bench = try NetBench.card(port)
    try bench.start(Self.host)
    bench.host.pause()
    try bench.transmit(bytes(Large.all[0].packet(Self.payload, size: 30)))
    for slot in 1...3 { try bench.transmit(plainHeader + frame(), slot: UInt64(slot)) }
    bench.host.resume()
    #expect(bench.host.device.counters.transmittedPackets == 4)
    for queue in bench.rings.indices { _ = try bench.host.stopQueue(queue) }
    #expect(port.sent.isEmpty)
    // 64 segments of the first, the rest of it, and the others.
    #expect(bench.host.device.counters.drops == [.noReceiver: 68])
  }

  @Test("with the link down nothing passes that had to wait before")
  func linkDown() throws {
    let port = ScriptedPort()
    port.room = 0
    var bench = try NetBench.card(port)
    try bench.start()
    try bench.transmit(plainHeader + frame())
    port.waiting = [ScriptedPort.Packet(frame: frame())]
    bench.host.wake()
    port.room = .max
    bench.host.update { $0.setLink(isUp: false) }
    try bench.offer(1, of: 2048)
    bench.host.kick(0)
    #expect(try bench.rings[0].takeUsed() == nil)
    for queue in bench.rings.indices { _ = try bench.host.stopQueue(queue) }
    #expect(port.sent.isEmpty)
    #expect(bench.host.device.counters.drops.values.reduce(0, +) == 2)
  }

  /// A packet that leaves more undone than it may, or other than it says.
  struct Wrong: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var reason = DropReason.badHeader
    var features: Features = NetOffloadTests.host
    var change: @Sendable (inout NetHeader) -> Void

    static let all = [
      Wrong(testDescription: "checksum not negotiated", reason: .notNegotiated, features: [.version1]) { _ in },
      Wrong(testDescription: "segments not negotiated", reason: .notNegotiated, features: [.version1, .netChecksum]) {
        _ in
      },
      Wrong(
        testDescription: "congestion not negotiated", reason: .notNegotiated,
        features: [.version1, .netChecksum, .netHostTSO4]
      ) { $0.hasCongestionBit = true },
      Wrong(testDescription: "segments without a checksum") { $0.flags = [] },
      Wrong(testDescription: "no size") { $0.segmentByteCount = 0 },
      Wrong(testDescription: "a size that makes too many") { $0.segmentByteCount = 1 },
      Wrong(testDescription: "the other version of IP") { $0.segmentation = .tcp6 },
      Wrong(testDescription: "the other protocol") { $0.segmentation = .udpDatagrams },
      Wrong(testDescription: "a checksum beyond the frame") { $0.checksumStart = .max },
      Wrong(testDescription: "a checksum beyond the start") { $0.checksumOffset = .max },
      Wrong(testDescription: "a checksum in the Ethernet header") { $0.checksumStart = 2 },
      Wrong(testDescription: "another field's place") { $0.checksumOffset = 6 },
    ]
  }

  @Test(
    "5.1.6.2: a header that is wrong costs its packet, is counted by its reason, and no other", arguments: Wrong.all)
  func wrong(wrong: Wrong) throws {
    let port = ScriptedPort()
    port.takenOffloads = []
    var bench = try NetBench.card(port)
    try bench.start(wrong.features)
    var packet = Large.all[0].packet(Self.payload, size: 900)
    wrong.change(&packet.header)
    for bytes in [plainHeader + frame(), bytes(packet), plainHeader + frame(byteCount: 99)] {
      try bench.transmit(bytes)
    }
    #expect(port.sent.map(\.frame) == [frame(), frame(byteCount: 99)])
    #expect(bench.host.device.counters.drops == [wrong.reason: 1])
    #expect(try bench.rings[1].takeAllUsed().count == 3)
  }

  @Test("a port's packet with a wrong header is dropped as a driver's is, and the driver gets the next")
  func wrongFromPort() throws {
    for wrong in Wrong.all where wrong.reason == .badHeader {
      let port = ScriptedPort()
      var bench = try NetBench.card(port)
      try bench.start()
      var packet = Large.all[0].packet(Self.payload, size: 900)
      wrong.change(&packet.header)
      port.waiting = [packet, ScriptedPort.Packet(frame: frame())]
      #expect(try received(&bench, bufferByteCount: 2048, atOnce: 4) == [frame()])
      #expect(bench.host.device.counters.drops == [.badHeader: 1])
    }
  }

  @Test("5.1.6.5.8: what a driver may leave undone is nothing that it can take undone")
  func otherDirection() throws {
    let port = ScriptedPort()
    var bench = try NetBench.card(port)
    try bench.start(Self.host.union([.netControlQueue, .netControlGuestOffloads, .netGuestChecksum]))
    #expect(try bench.command([5, 0, 1, 0, 0, 0, 0, 0, 0, 0]) == 1)
    #expect(try bench.command([5, 0, 2, 8, 0, 0, 0, 0, 0, 0]) == 1)
    #expect(port.givenOffloads == .checksum)
    #expect(try bench.command([5, 0, 0, 0, 0, 0, 0, 0, 0, 0]) == 0)
  }
}
