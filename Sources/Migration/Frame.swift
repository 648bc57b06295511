import GuestRAM

/// What a frame says. The raw value is the number on the wire.
public enum FrameKind: UInt16, CaseIterable, Sendable {
  /// Both sides, first: role and producer.
  case hello = 1
  /// Source: memory layout and what else has to fit.
  case description = 2
  /// Destination: it can take what is described.
  case accept = 3
  /// Either side: it goes no further, and why.
  case abort = 4
  /// Source: pages whose data follows, and pages that are zero.
  case plan = 5
  /// Source: the data of planned pages.
  case pages = 6
  /// Source: the next part of the saved state.
  case state = 7
  /// Source: all has been sent; counts, and whether to verify.
  case complete = 8
  /// Destination: the digests of pages that it holds.
  case digests = 9
  /// Destination: there are no more digests.
  case digestsEnd = 10
  /// Destination: it could run the guest now.
  case ready = 11
  /// Source: the guest is the destination's.
  case commit = 12
  /// Destination: it has the guest.
  case committed = 13
  /// Source: memory is gone through once more, for what was written since; which pass it is.
  case pass = 14
  /// Source: planned pages in whatever encoding is shortest.
  case encoded = 15
  /// Source, before it is accepted: the guest may run before all of its pages are there.
  case postcopy = 16
  /// Pages that have not come yet: from a source before it gives the guest away, from a destination that is joined anew.
  case outstanding = 17
  /// Source: outstanding pages, in any order.
  case late = 18
  /// Destination: somebody waits for an outstanding page.
  case request = 19
  /// Destination: late pages have been stored, so that more may be sent.
  case stored = 20
  /// Source, over a new connection: it goes on with the guest that it has given away.
  case rejoin = 21
  /// Source, in place of `description`: the same, of a guest whose memory comes as files.
  case handOver = 24
  /// Source: where in which file each region of memory is; the files' descriptors come with it.
  case files = 25
  /// Source, once accepted: how many further connections there are, and what they are known by. Destination: whether it
  /// takes them.
  case lanes = 32
  /// Source, first on a further connection: which it is.
  case join = 33
  /// Source, on a further connection: all of a pass has been sent here.
  case barrier = 34
}

extension FrameKind: CustomStringConvertible {
  public var description: String {
    switch self {
    case .hello: "hello"
    case .description: "description"
    case .accept: "accept"
    case .abort: "abort"
    case .plan: "plan"
    case .pages: "pages"
    case .state: "state"
    case .complete: "complete"
    case .digests: "digests"
    case .digestsEnd: "digests end"
    case .ready: "ready"
    case .commit: "commit"
    case .committed: "committed"
    case .pass: "pass"
    case .encoded: "encoded"
    case .postcopy: "postcopy"
    case .outstanding: "outstanding"
    case .late: "late"
    case .request: "request"
    case .stored: "stored"
    case .rejoin: "rejoin"
    case .handOver: "hand over"
    case .files: "files"
    case .lanes: "lanes"
    case .join: "join"
    case .barrier: "barrier"
    }
  }

  /// The most bytes of payload, page data apart, so that a reader knows what it allocates.
  var mostPayload: Int {
    switch self {
    case .accept, .digestsEnd, .ready, .commit, .committed: 0
    case .complete, .pass, .postcopy, .late, .request, .stored, .rejoin, .lanes, .join, .barrier: 64
    case .hello, .abort, .pages: 2048
    case .description, .handOver: 1 << 20
    case .files: MemoryFiles.mostPayload
    case .plan, .state, .digests, .outstanding: 1 << 16
    case .encoded: EncodedPages.mostPayload
    }
  }

  /// The most bytes of page data behind the payload.
  var mostData: Int { self == .pages || self == .late ? Frame.mostPageData : 0 }
}

/// A frame without its page data: everything is little endian.
///
/// | bytes | |
/// |---|---|
/// | 0 ..< 2 | kind |
/// | 2 ..< 4 | flags, 0 in this version |
/// | 4 ..< 8 | number: 0, 1, 2, … in each direction |
/// | 8 ..< 12 | bytes of payload |
/// | 12 ..< 16 | bytes of page data behind the payload, at most 256 KiB; 0 for all kinds but `pages` and `late` |
/// | 16 ..< 24 | digest of the payload |
/// | 24 ..< 32 | digest of the 24 bytes before |
///
/// The digest of page data is in the payload. The header has a digest of its own so that a damaged length is found
/// before it is believed.
struct Frame: Equatable, Sendable {
  static let headerByteCount = 32
  /// Little enough to stay in the processor's nearest caches from one step to the next.
  static let mostPageData = 256 << 10

  let kind: FrameKind
  var payload: [UInt8] = []
  var dataByteCount = 0

  func header(number: UInt32) -> [UInt8] {
    var writer = WireWriter()
    writer.append(kind.rawValue)
    writer.append(UInt16(0))
    writer.append(number)
    writer.append(UInt32(payload.count))
    writer.append(UInt32(dataByteCount))
    writer.append(GuestMemory.digest(of: payload))
    writer.append(GuestMemory.digest(of: writer.bytes))
    return writer.bytes
  }
}

/// What a header announces, checked as far as it can be before the payload is there.
struct FrameHeader {
  let kind: FrameKind
  let payloadByteCount: Int
  let dataByteCount: Int
  private let payloadDigest: UInt64

  init(_ bytes: [UInt8], expecting expected: UInt32) throws(MigrationError) {
    var reader = WireReader(bytes)
    guard let kind = reader.integer(UInt16.self), let flags = reader.integer(UInt16.self),
      let number = reader.integer(UInt32.self), let payloadByteCount = reader.integer(UInt32.self),
      let dataByteCount = reader.integer(UInt32.self), let payloadDigest = reader.integer(UInt64.self),
      reader.integer(UInt64.self) == GuestMemory.digest(of: Array(bytes.prefix(24)))
    else { throw .damagedFrame(nil) }
    guard let kind = FrameKind(rawValue: kind) else { throw .unknownFrame(kind) }
    guard flags == 0 else { throw .unknownFlags(flags, kind) }
    guard number == expected else { throw .outOfSequence(kind, number: number, expected: expected) }
    try Self.check(Int(payloadByteCount), of: kind, most: kind.mostPayload)
    try Self.check(Int(dataByteCount), of: kind, most: kind.mostData)
    self.kind = kind
    self.payloadByteCount = Int(payloadByteCount)
    self.dataByteCount = Int(dataByteCount)
    self.payloadDigest = payloadDigest
  }

  private static func check(_ byteCount: Int, of kind: FrameKind, most: Int) throws(MigrationError) {
    guard byteCount <= most else { throw .frameTooLong(kind, byteCount: byteCount, most: most) }
  }

  func frame(_ payload: [UInt8]) throws(MigrationError) -> Frame {
    guard GuestMemory.digest(of: payload) == payloadDigest else { throw .damagedFrame(kind) }
    return Frame(kind: kind, payload: payload, dataByteCount: dataByteCount)
  }
}
