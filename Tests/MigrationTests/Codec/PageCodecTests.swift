import Support
import Synchronization
import Testing

@testable import Migration

/// A clock that goes on by as much as it is told at every look.
private final class StepClock: Sendable {
  private let time = Atomic<UInt64>(0)
  let step: UInt64
  init(step: UInt64) { self.step = step }
  var now: UInt64 { time.wrappingAdd(step, ordering: .relaxed).newValue }
}

@Suite("Codec: the choice") struct PageCodecTests {
  /// Small pages, so that there may be many.
  private static let size = 256

  private func makeCodec(_ cacheByteCount: Int = 1 << 18, nanoseconds: UInt64 = 1000) -> PageCodec {
    let clock = StepClock(step: nanoseconds)
    return PageCodec(cacheByteCount: cacheByteCount, pageByteCount: Self.size) { clock.now }
  }

  /// Encodes a page and decodes it over `earlier`; how it was sent and what arrived.
  private func send(
    _ page: [UInt8], _ number: UInt64, _ codec: inout PageCodec, over earlier: [UInt8]
  ) -> (sent: EncodedPage, arrived: [UInt8]?) {
    var sent = EncodedPage(.plain, byteCount: 0)
    let room = inRoom([UInt8](repeating: 0xCC, count: page.count)) { (span, room) in
      sent = codec.encode(page.span, number: number, into: &span, within: room)
    }
    #expect(room.isConfined)
    let payload = [UInt8](room.bytes.prefix(sent.byteCount))
    let decoded = inRoom(earlier) { sent.encoding.decode(payload.span, into: &$0, within: $1) }
    #expect(decoded.isConfined)
    return (sent, decoded.outcome ? decoded.bytes : nil)
  }

  @Test("each kind of page is sent in the encoding that is made for it, and arrives")
  func kinds() {
    var random = SeededGenerator(for: "codec kinds")
    var codec = makeCodec()
    let nothing = [UInt8](repeating: 0, count: Self.size)
    let noise = Content.noise.bytes(Self.size, using: &random)
    var changed = noise
    changed[100] ^= 1
    let text = Content.text.bytes(Self.size, using: &random)
    let steps: [(page: [UInt8], encoding: PageEncoding)] = [
      (nothing, .zero), (noise, .plain), (noise, .unchanged), (changed, .delta), (text, .lz4), (nothing, .zero),
      (noise, .plain),
    ]
    var held = nothing
    for (page, encoding) in steps {
      let (sent, arrived) = send(page, 9, &codec, over: held)
      #expect(sent.encoding == encoding && arrived == page)
      held = page
    }
    let report = codec.report
    #expect(report.zero.pageCount == 2 && report.plain.pageCount == 2 && report.plain.byteCount == 512)
    #expect(report.unchanged.pageCount == 1 && report.delta == .init(pageCount: 1, byteCount: 3))
    #expect(report.byteCountIn == 7 * 256)
    #expect(report.byteCountOut == 512 + 3 + report.lz4.byteCount)
    #expect(report.deltaNanoseconds == 5000 && report.lz4Nanoseconds == 3000)
  }

  @Test("whatever is written to pages, and whether codecs are on or off, the other side holds the same")
  func soak() {
    var random = SeededGenerator(for: "codec soak")
    // Room for fewer pages than there are, so that some are kept and some not.
    var codec = makeCodec(40 * (Self.size + 12))
    var guest = [[UInt8]](repeating: [UInt8](repeating: 0, count: Self.size), count: 60)
    var copy = guest
    var encodings: Set<PageEncoding> = []
    for step in 0..<3000 {
      if step % 60 == 0 {
        codec.startRound()
        codec.linkSpeed = [0, 1_000_000, 1 << 40].randomElement(using: &random) ?? 0
      }
      let number = Int.random(in: 0..<guest.count, using: &random)
      switch Int.random(in: 0..<8, using: &random) {
      case 0: guest[number] = Content.zeros.bytes(Self.size, using: &random)
      case 1: guest[number] = Content.text.bytes(Self.size, using: &random)
      case 2: guest[number] = Content.periodic.bytes(Self.size, using: &random)
      case 3: guest[number] = Content.noise.bytes(Self.size, using: &random)
      case 4: break
      default: guest[number][Int.random(in: 0..<Self.size, using: &random)] &+= 1
      }
      let (sent, arrived) = send(guest[number], UInt64(number), &codec, over: copy[number])
      encodings.insert(sent.encoding)
      guard let arrived, arrived == guest[number] else {
        Issue.record("page \(number) arrived otherwise at step \(step), as \(sent)")
        return
      }
      copy[number] = arrived
    }
    #expect(encodings == Set(PageEncoding.allCases))
  }

  @Test("compression goes off on a link that is faster than it saves, and on again on one that is slower")
  func compressionPays() {
    var random = SeededGenerator(for: "codec gain")
    var codec = makeCodec(0, nanoseconds: 600)
    let text = Content.text.bytes(Self.size, using: &random)
    func encode(_ count: UInt64) -> UInt64 {
      let before = codec.report.lz4.pageCount
      for number in 0..<count { _ = send(text, number, &codec, over: text) }
      return codec.report.lz4.pageCount - before
    }
    // Less than 256 bytes in 600 nanoseconds: at most 427 MB a second are saved.
    codec.linkSpeed = 500_000_000
    _ = encode(4096)
    #expect(codec.isLZ4Paying == false)
    #expect((128...384).contains(encode(4096)))
    codec.linkSpeed = 20_000_000
    _ = encode(4096)
    #expect(codec.isLZ4Paying == true)
    #expect(encode(1000) == 1000)
  }

  @Test("compression that saves nothing goes off on any link")
  func incompressible() {
    var random = SeededGenerator(for: "codec incompressible")
    var codec = makeCodec(0)
    for number in 0..<4096 as Range<UInt64> {
      _ = send(
        Content.noise.bytes(Self.size, using: &random), number, &codec, over: [UInt8](repeating: 0, count: Self.size))
      if !codec.isLZ4Paying { return }
    }
    Issue.record("compression of noise still pays")
  }

  @Test("the first round does not speak against deltas; a later one in which nothing is found again does")
  func deltaPays() {
    var codec = makeCodec(1 << 20)
    codec.linkSpeed = 50_000_000
    var random = SeededGenerator(for: "codec deltas")
    var page = Content.noise.bytes(Self.size, using: &random)
    codec.startRound()
    for number in 0..<2000 as Range<UInt64> { _ = send(page, number, &codec, over: page) }
    #expect(codec.isDeltaPaying == true)
    codec.startRound()
    page[0] &+= 1
    var deltaCount = 0
    for number in 0..<2000 as Range<UInt64> where send(page, number, &codec, over: page).sent.encoding == .delta {
      deltaCount += 1
    }
    // Some pages share their two places with more than one other.
    #expect(deltaCount > 1800)
    #expect(codec.isDeltaPaying == true)
    codec.startRound()
    for number in 5000..<9000 as Range<UInt64> { _ = send(page, number, &codec, over: page) }
    #expect(codec.isDeltaPaying == false)
  }

  @Test("the same pages and the same clock give the same bytes")
  func deterministic() {
    func run() -> [EncodedPage] {
      var random = SeededGenerator(seed: 7)
      var codec = makeCodec(1 << 18)
      codec.linkSpeed = 300_000_000
      return (0..<2000).map { (step: Int) in
        if step % 200 == 0 { codec.startRound() }
        let page = Content.allCases[step % 5].bytes(Self.size, using: &random)
        return send(page, UInt64(step % 300), &codec, over: page).sent
      }
    }
    #expect(run() == run())
  }

  @Test("a payload that is not one of its encoding is refused")
  func refused() {
    let page = [UInt8](repeating: 3, count: 32)
    func decode(_ encoding: PageEncoding, _ payload: [UInt8]) -> [UInt8]? {
      let decoded = inRoom(page) { encoding.decode(payload.span, into: &$0, within: $1) }
      #expect(decoded.isConfined)
      return decoded.outcome ? decoded.bytes : nil
    }
    #expect(decode(.plain, [UInt8](repeating: 4, count: 32)) == [UInt8](repeating: 4, count: 32))
    for count in [0, 31, 33] { #expect(decode(.plain, [UInt8](repeating: 4, count: count)) == nil) }
    #expect(decode(.zero, []) == [UInt8](repeating: 0, count: 32) && decode(.zero, [0]) == nil)
    #expect(decode(.unchanged, []) == page && decode(.unchanged, [0]) == nil)
    #expect(decode(.delta, []) == nil && decode(.delta, [0, 1]) == nil && decode(.delta, [0, 1, 3]) == page)
    #expect(decode(.lz4, []) == nil && decode(.lz4, [0x10, 1]) == nil)
  }
}
