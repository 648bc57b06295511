import GuestRAM

/// Neighbouring outstanding pages that come in one frame.
///
/// The payload: the address of the first page, with its lowest bit set if all are zero, how many there are (4 bytes), and
/// the digest of the data, which is 0 for zeros.
struct LateRun: Equatable {
  /// The most pages in a frame: a page that somebody waits for has to wait for those before it.
  static let mostPages = 16

  let run: PageRun
  let digest: UInt64

  init(_ frame: Frame) throws(MigrationError) {
    var reader = WireReader(frame.payload)
    guard let word: UInt64 = reader.integer(), let pageCount: UInt32 = reader.integer(),
      let digest: UInt64 = reader.integer(), reader.remainingCount == 0, pageCount > 0, pageCount <= Self.mostPages
    else { throw .malformedFrame(.late) }
    run = PageRun(start: GuestAddress(word & ~1), pageCount: pageCount, isZero: word & 1 == 1)
    self.digest = digest
    guard frame.dataByteCount == (run.isZero ? 0 : Int(run.byteCount)) else { throw .malformedFrame(.late) }
  }

  var frame: Frame {
    var writer = WireWriter()
    writer.append(run.start.rawValue | (run.isZero ? 1 : 0))
    writer.append(run.pageCount)
    writer.append(digest)
    return Frame(kind: .late, payload: writer.bytes, dataByteCount: run.isZero ? 0 : Int(run.byteCount))
  }

  /// The first of these pages in the memory of a guest that stands still, as long as they are alike.
  init(first pages: GuestRange, of memory: GuestMemory) throws(MigrationError) {
    func isZero(_ index: UInt64) throws(MigrationError) -> Bool {
      let start = GuestAddress(pages.start.rawValue + index * GuestPage.byteCount)
      let page = GuestRange(start: start, byteCount: GuestPage.byteCount)
      return try inGuestMemory { () throws(GuestMemoryError) in try memory.isZero(page) }
    }
    let isZeroRun = try isZero(0)
    var count: UInt64 = 1
    while count < pages.byteCount / GuestPage.byteCount, try isZero(count) == isZeroRun { count += 1 }
    run = PageRun(start: pages.start, pageCount: UInt32(count), isZero: isZeroRun)
    let range = run.range
    digest = isZeroRun ? 0 : try inGuestMemory { () throws(GuestMemoryError) in try memory.digest(range) }
  }
}

/// What a source that comes back over a new connection shows to be the one that gave the guest away: 16 random bytes.
struct MoveToken: Equatable, Sendable {
  let bytes: [UInt8]

  init() {
    var generator = SystemRandomNumberGenerator()
    bytes = (0..<16).map { (_) in UInt8.random(in: 0...255, using: &generator) }
  }

  init(_ frame: Frame) throws(MigrationError) {
    guard frame.payload.count == 16 else { throw .malformedFrame(frame.kind) }
    bytes = frame.payload
  }
}

extension GuestAddress {
  /// The payload that names one page.
  var pagePayload: [UInt8] {
    var writer = WireWriter()
    writer.append(rawValue)
    return writer.bytes
  }

  init(page frame: Frame) throws(MigrationError) {
    var reader = WireReader(frame.payload)
    guard let address: UInt64 = reader.integer(), reader.remainingCount == 0, address % GuestPage.byteCount == 0 else {
      throw .malformedFrame(frame.kind)
    }
    self.init(address)
  }
}
