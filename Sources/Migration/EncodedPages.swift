import GuestRAM
import LinuxIO

/// Planned pages, each in an encoding of its own, as a frame carries them.
///
/// The payload: the address of the first page (8 bytes), how many there are (2 bytes), and for each a byte of
/// `PageEncoding`, the number of its bytes (2 bytes), and these.
struct EncodedPages {
  private static let headByteCount = 10
  private static let pageHeadByteCount = 3
  private static let pageByteCount = Int(GuestPage.byteCount)
  /// As many pages as a frame of plain ones has, none of them any shorter.
  static let mostPayload = headByteCount + Int(PageRun.mostDataPages) * (pageHeadByteCount + pageByteCount)

  let start: GuestAddress
  /// What the pages have when they are decoded.
  let byteCount: Int
  private let payload: [UInt8]
  private var position = headByteCount
  private var page = [UInt8](repeating: 0, count: pageByteCount)

  init(_ payload: [UInt8]) throws(MigrationError) {
    var reader = WireReader(payload)
    guard let address: UInt64 = reader.integer(), let count: UInt16 = reader.integer(), count > 0 else {
      throw .malformedFrame(.encoded)
    }
    start = GuestAddress(address)
    byteCount = Int(count) * Self.pageByteCount
    self.payload = payload
  }

  var isAtEnd: Bool { position == payload.count }

  /// Decodes the next page on top of what memory holds there.
  mutating func storeNext(at address: GuestAddress, _ memory: GuestMemory) throws(MigrationError) {
    guard let (encoding, bytes) = next() else { throw .malformedFrame(.encoded) }
    if encoding == .unchanged, bytes.isEmpty { return }
    let place = GuestRange(start: address, byteCount: GuestPage.byteCount)
    try inGuestMemory { () throws(GuestMemoryError) in try memory.makePresent(place) }
    // A delta is all that needs what is there.
    if encoding == .delta {
      try inGuestMemory { () throws(GuestMemoryError) in try memory.read(into: &page, at: address) }
    }
    let payload = payload
    var room = page.mutableSpan
    guard encoding.decode(payload.span.extracting(bytes), into: &room, within: 0..<Self.pageByteCount) else {
      throw .damagedPages(place)
    }
    try inGuestMemory { () throws(GuestMemoryError) in try memory.write(bytes: page, at: address) }
  }

  private mutating func next() -> (PageEncoding, Range<Int>)? {
    guard payload.count - position >= Self.pageHeadByteCount,
      let encoding = PageEncoding(rawValue: payload[position])
    else { return nil }
    let count = Int(payload[position + 1]) | Int(payload[position + 2]) << 8
    let start = position + Self.pageHeadByteCount
    guard count <= Self.pageByteCount, count <= payload.count - start else { return nil }
    position = start + count
    return (encoding, start..<position)
  }

  /// Encodes the pages of a frame.
  static func encode(
    _ frame: PageFrame, of memory: GuestMemory, by codec: inout PageCodec, in room: inout [UInt8],
    noting sent: SentPages? = nil
  ) throws(MigrationError) -> [UInt8] {
    var head = WireWriter()
    head.append(frame.runs.first?.start.rawValue ?? 0)
    head.append(UInt16(frame.byteCount / pageByteCount))
    room.replaceSubrange(0..<headByteCount, with: head.bytes)
    var position = headByteCount
    // A copy, because the guest may write the page while it is looked at.
    var page = [UInt8](repeating: 0, count: pageByteCount)
    var digests: [UInt64] = []
    for run in frame.runs {
      for number in 0..<UInt64(run.pageCount) {
        let address = GuestAddress(run.start.rawValue + number * GuestPage.byteCount)
        try inGuestMemory { () throws(GuestMemoryError) in try memory.read(into: &page, at: address) }
        if sent != nil { digests.append(GuestMemory.digest(of: page)) }
        let start = position + pageHeadByteCount
        var span = room.mutableSpan
        let encoded = codec.encode(
          page.span, number: address.rawValue / GuestPage.byteCount, into: &span, within: start..<start + pageByteCount)
        room[position] = encoded.encoding.rawValue
        room[position + 1] = UInt8(truncatingIfNeeded: encoded.byteCount)
        room[position + 2] = UInt8(truncatingIfNeeded: encoded.byteCount >> 8)
        position = start + encoded.byteCount
      }
    }
    sent?.note(digests, of: frame.runs)
    return Array(room[..<position])
  }
}

/// Encodes pages for a connection. It knows what the other side holds of each, so all data of a move goes through one.
final class PageEncoder {
  private var codec: PageCodec
  private var room = [UInt8](repeating: 0, count: EncodedPages.mostPayload)

  init(cacheByteCount: Int) {
    codec = PageCodec(cacheByteCount: cacheByteCount)
  }

  var report: PageCodecReport { codec.report }

  /// Another pass over memory begins.
  func startRound() { codec.startRound() }

  /// The other side learns from the plan that these pages are zero.
  func forget(_ run: PageRun) {
    let first = run.start.rawValue / GuestPage.byteCount
    codec.forget(first..<first + UInt64(run.pageCount))
  }

  /// - Parameter linkSpeed: bytes a second, as last measured; 0 when that is not known yet.
  func payload(
    of frame: PageFrame, _ memory: GuestMemory, linkSpeed: UInt64, noting sent: SentPages? = nil
  ) throws(MigrationError) -> [UInt8] {
    codec.linkSpeed = linkSpeed
    return try EncodedPages.encode(frame, of: memory, by: &codec, in: &room, noting: sent)
  }
}
