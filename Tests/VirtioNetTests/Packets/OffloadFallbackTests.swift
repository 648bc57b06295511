import Support
import Testing

@testable import VirtioNet

@Suite struct OffloadFallbackTests {
  /// A card that hands packets on through a fallback, batch for batch.
  private struct Card: ~Copyable {
    var batch = PacketBatch(byteCount: 128 << 10)
    var fallback: OffloadFallback
    var taken: Offloads
    var sent: [(frame: [UInt8], header: NetHeader?)] = []
    var rounds = 0

    init(_ direction: OffloadFallback.Direction = .toPort, taken: Offloads) {
      fallback = OffloadFallback(direction)
      self.taken = taken
    }

    mutating func add(_ frame: [UInt8], _ header: NetHeader) {
      let added = batch.append(frame[...], header)
      #expect(added)
    }

    /// Sends all, at most so many packets at a time.
    mutating func send(given: Offloads = .all, atOnce: Int = .max) {
      repeat {
        fallback.adapt(&batch, from: given, to: taken)
        for index in 0..<min(atOnce, batch.count) {
          sent.append((Array(batch.bytes[batch.frame(index)]), batch.header(index)))
        }
        batch.removeFirst(atOnce)
        rounds += 1
      } while !batch.isEmpty || fallback.hasMore
    }
  }

  static let payload = (0..<5000).map { UInt8(truncatingIfNeeded: $0 &* 7) }

  @Test("What the receiver does is passed on as it was, with a hint that is right")
  func passes() {
    var card = Card(taken: .all)
    let plain = TestFrame.ip4(.udp, payload: [1])
    let tcp = TestFrame.ip6(.tcp, payload: Self.payload)
    card.add(plain.complete, NetHeader())
    card.add(plain.partial, plain.header())
    var wrongHint = tcp.header(.tcp6, size: 1000)
    wrongHint.headersByteCount = 0xFFFF
    card.add(tcp.partial, wrongHint)
    card.send()
    #expect(card.sent.map { $0.frame } == [plain.complete, plain.partial, tcp.partial])
    var hinted = tcp.header(.tcp6, size: 1000)
    hinted.headersByteCount = 74
    #expect(card.sent.map { $0.header } == [NetHeader(), plain.header(), hinted])
    #expect(card.fallback.drops.isEmpty && card.rounds == 1)
  }

  @Test("What the receiver does not do is done")
  func done() throws {
    var card = Card(taken: [])
    let udp = TestFrame.ip4(.udp, payload: [1])
    let tcp = TestFrame.ip6(.tcp, payload: Self.payload)
    card.add(udp.complete, NetHeader())
    card.add(tcp.partial, tcp.header(.tcp6, size: 1000))
    card.add(udp.partial, udp.header())
    card.send()
    #expect(card.sent.count == 7)
    #expect(card.sent.allSatisfy { $0.header == NetHeader() && Reference.Packet($0.frame) != nil })
    #expect(card.sent.first?.frame == udp.complete && card.sent.last?.frame == udp.complete)
    #expect(card.sent[1..<6].flatMap { Reference.Packet($0.frame)?.payload ?? [] } == Self.payload)
  }

  @Test("5.1.6.4.1: num_buffers is every segment's")
  func bufferCount() {
    var card = Card(.toDriver, taken: [])
    let frame = TestFrame.ip4(.tcp, payload: Self.payload)
    var header = frame.header(.tcp4, size: 1000)
    header.bufferCount = 1
    card.add(frame.partial, header)
    header.segmentation = .none
    card.add(frame.partial, header)
    card.send()
    #expect(card.sent.map { $0.header?.bufferCount } == [1, 1, 1, 1, 1, 1])
  }

  @Test("5.1.6.2.1: only what is taken of a kind is left; the congestion bit is a kind of its own")
  func kinds() {
    let cases: [(NetHeader.Segmentation, TestFrame, Offloads)] = [
      (.tcp4, .ip4(.tcp, payload: Self.payload), .tcp4), (.tcp6, .ip6(.tcp, payload: Self.payload), .tcp6),
      (.udpDatagrams, .ip4(.udp, payload: Self.payload), .udp4),
      (.udpDatagrams, .ip6(.udp, payload: Self.payload), .udp6),
      (.udpFragments, .ip4(.udp, payload: Self.payload), .udpFragments),
    ]
    for (segmentation, frame, offload) in cases {
      for (taken, count) in [([.checksum, offload], 1), (.all.subtracting(offload), 5), (offload, 5)]
        as [(Offloads, Int)]
      {
        var card = Card(taken: taken)
        card.add(frame.partial, frame.header(segmentation, size: segmentation == .udpFragments ? 1008 : 1000))
        card.send()
        #expect(card.sent.count == count, "\(segmentation) to \(taken)")
      }
    }
    var card = Card(taken: [.checksum, .tcp4])
    let frame = TestFrame.ip4(.tcp, payload: Self.payload)
    var header = frame.header(.tcp4, size: 1000)
    header.hasCongestionBit = true
    card.add(frame.partial, header)
    card.send()
    #expect(card.sent.count == 5)
  }

  @Test("What is wrong is dropped and counted, and its neighbours pass in order")
  func drops() {
    var card = Card(taken: .all)
    let frames = (0..<5).map { TestFrame.ip4(.udp, payload: [$0]) }
    var outside = frames[1].header()
    outside.checksumStart = 1000
    card.add(frames[0].complete, NetHeader())
    card.add(frames[1].partial, outside)
    card.add([UInt8](repeating: 0, count: 13), NetHeader())
    card.add(frames[2].partial, frames[2].header())
    card.add(frames[3].partial, frames[3].header(.tcp4, size: 100))
    card.add(frames[4].complete, NetHeader())
    let unknown = card.batch.packet(5).lowerBound + 1
    card.batch.bytes[unknown] = 2
    card.send(given: [.checksum, .tcp4])
    #expect(card.sent.map { $0.frame } == [frames[0].complete, frames[2].partial])
    #expect(card.fallback.drops == [.badHeader: 3, .tooShort: 1])
    card.add(frames[2].partial, frames[2].header())
    card.send(given: [])
    #expect(card.fallback.drops == [.badHeader: 3, .tooShort: 1, .notNegotiated: 1])
  }

  @Test("5.1.6.2.1, 5.1.6.4.1: that a checksum was found right is told to drivers only, and only if they know it")
  func dataValid() {
    let frame = TestFrame.ip4(.udp, payload: [1]).complete
    var header = NetHeader()
    header.flags = [.dataValid, .coalescingInfo]
    let cases: [(OffloadFallback.Direction, Offloads, NetHeader.Flags)] = [
      (.toPort, .all, []), (.toDriver, .checksum, .dataValid), (.toDriver, [], []),
    ]
    for (direction, taken, flags) in cases {
      var card = Card(direction, taken: taken)
      card.add(frame, header)
      card.send()
      #expect(card.sent.map { $0.header?.flags } == [flags])
      #expect(card.sent.map { $0.frame } == [frame])
    }
  }

  @Test("A batch of nothing but wrong packets becomes empty")
  func allWrong() {
    var card = Card(taken: [])
    for _ in 0..<3 { card.add([1], NetHeader()) }
    card.send()
    #expect(card.sent.isEmpty && card.fallback.drops == [.tooShort: 3] && card.rounds == 1)
  }

  @Test(
    "More segments than a batch takes follow in order, while the receiver takes a few at a time", arguments: [3, 64])
  func more(atOnce: Int) {
    var random = SeededGenerator(for: "OffloadFallbackTests.more")
    var card = Card(taken: [])
    var expected: [UInt8] = []
    for number in 0..<3 {
      let payload = SegmenterTests.bytes(30_000, &random)
      let frame = TestFrame.ip4(.tcp, payload: payload)
      card.add(frame.partial, frame.header(.tcp4, size: 200 + number))
      expected += payload
    }
    card.send(atOnce: atOnce)
    #expect(card.sent.flatMap { Reference.Packet($0.frame)?.payload ?? [] } == expected)
    #expect(card.rounds > 6)
    // And the memory is used again.
    card.add(TestFrame.ip4(.udp).complete, NetHeader())
    card.send()
    #expect(card.sent.last?.frame == TestFrame.ip4(.udp).complete)
  }

  @Test("What is not adapted yet can be forgotten")
  func forget() {
    var card = Card(taken: [])
    let frame = TestFrame.ip4(.tcp, payload: Self.payload)
    card.add(frame.partial, frame.header(.tcp4, size: 50))
    card.fallback.adapt(&card.batch, from: .all, to: [])
    let before = card.fallback.hasMore
    card.fallback.removeAll()
    card.batch.removeAll()
    let after = card.fallback.hasMore
    #expect(before && !after)
    card.send()
    #expect(card.sent.isEmpty)
  }

  @Test("Whatever headers and frames say, nothing traps, and what passes is plain and no longer than a frame may be")
  func garbage() {
    var random = SeededGenerator(for: "OffloadFallbackTests.garbage")
    for round in 0..<600 {
      var card = Card(round % 2 == 0 ? .toPort : .toDriver, taken: [])
      for _ in 0..<Int.random(in: 1...8, using: &random) {
        let (frame, header) = Self.nearlyRight(&random)
        card.add(frame, header)
      }
      card.send(atOnce: 40)
      #expect(card.sent.allSatisfy { $0.header?.isPlain == true && $0.header?.flags == [] })
      #expect(card.sent.allSatisfy { $0.frame.count <= PacketBatch.largestFrameByteCount })
    }
  }

  /// A frame and its header, with a few bytes changed in both.
  private static func nearlyRight(_ random: inout SeededGenerator) -> ([UInt8], NetHeader) {
    let frame = TestFrames.any(&random, payload: 3000)
    let kinds: [NetHeader.Segmentation] = [.none, .tcp4, .tcp6, .udpFragments, .udpDatagrams]
    var header = frame.header(
      kinds.randomElement(using: &random) ?? .none, size: Int.random(in: 0...1500, using: &random))
    var bytes = frame.partial
    for _ in 0..<Int.random(in: 0...3, using: &random) {
      bytes[Int.random(in: 12..<min(140, bytes.count), using: &random)] = UInt8.random(in: 0...255, using: &random)
    }
    if random.once(in: 4) { bytes.removeLast(Int.random(in: 0...bytes.count, using: &random)) }
    if random.once(in: 4) { header.checksumStart = UInt16.random(in: 0...100, using: &random) }
    if random.once(in: 4) { header.segmentByteCount = UInt16.random(in: 0...20, using: &random) }
    return (bytes, header)
  }
}
