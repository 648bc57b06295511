import LinuxIO

/// One request as the protocol has it.
struct NBDRequest {
  /// What goes along or comes back.
  enum Payload {
    case none
    /// A part of the data to fill with what is read.
    case filled(Range<Int>)
    /// A part of the data to write.
    case drained(Range<Int>)
    /// So many zeros to write.
    case zeros(Int)
  }

  let command: NBDCommand
  var flags: NBDCommandFlags = []
  let offset: UInt64
  let byteCount: UInt32
  var payload = Payload.none

  func header(handle: UInt64) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(28)
    bytes.append(bigEndian: NBDWire.request)
    bytes.append(bigEndian: flags.rawValue)
    bytes.append(bigEndian: command.rawValue)
    bytes.append(bigEndian: handle)
    bytes.append(bigEndian: offset)
    bytes.append(bigEndian: byteCount)
    return bytes
  }
}

/// The beginning of a reply, which says whose it is.
struct NBDReplyHeader {
  enum Kind {
    case simple(error: UInt32)
    case chunk(isLast: Bool, type: UInt16, byteCount: UInt32)
  }

  let handle: UInt64
  let kind: Kind

  static func receive(from socket: borrowing StreamSocket, until moment: UInt64) throws(NBDError) -> NBDReplyHeader {
    let bytes = try socket.receive(16, until: moment)
    let magic = bytes.bigEndian(UInt32.self, at: 0)
    switch magic {
    case NBDWire.simpleReply:
      return NBDReplyHeader(handle: bytes.bigEndian(at: 8), kind: .simple(error: bytes.bigEndian(at: 4)))
    case NBDWire.chunk:
      let flags = bytes.bigEndian(UInt16.self, at: 4)
      let byteCount = try socket.receive(4, until: moment).bigEndian(UInt32.self, at: 0)
      return NBDReplyHeader(
        handle: bytes.bigEndian(at: 8),
        kind: .chunk(
          isLast: flags & NBDWire.lastChunk != 0, type: bytes.bigEndian(at: 6), byteCount: byteCount))
    default: throw .illegalMagic(magic)
    }
  }
}

/// Takes the reply to one request off the stream, in as many chunks as it has.
struct NBDReply: ~Copyable {
  private let request: NBDRequest
  private let isStructured: Bool
  private var coverage = NBDCoverage()
  private var failure: NBDError?

  init(to request: NBDRequest, isStructured: Bool) {
    self.request = request
    self.isStructured = isStructured
  }

  /// Takes what follows a header.
  /// - Returns: the outcome once the reply is whole: nil when it is not yet, `.some(nil)` for success.
  mutating func take(
    _ header: NBDReplyHeader, from socket: borrowing StreamSocket, _ data: inout BlockData, until moment: UInt64
  ) throws(StoreError) -> NBDError?? {
    switch header.kind {
    case .simple(let error):
      try takeSimple(error, from: socket, &data, until: moment)
      return .some(failure)
    case .chunk(let isLast, let type, let byteCount):
      guard isStructured else { throw .nbd(.unexpectedReply(type: type)) }
      try takeChunk(type, byteCount, isLast: isLast, from: socket, &data, until: moment)
      guard isLast else { return nil }
      return .some(try finish())
    }
  }

  private mutating func takeSimple(
    _ error: UInt32, from socket: borrowing StreamSocket, _ data: inout BlockData, until moment: UInt64
  ) throws(StoreError) {
    guard error == 0 else {
      failure = Self.refusal(error, "")
      return
    }
    guard case .filled(let part) = request.payload else { return }
    // With chunks agreed on, nobody can tell whether data follows.
    guard !isStructured else { throw .nbd(.unexpectedReply(type: NBDWire.ChunkType.none)) }
    try Self.fill(part, of: &data, from: socket, until: moment)
  }

  private mutating func takeChunk(
    _ type: UInt16, _ byteCount: UInt32, isLast: Bool, from socket: borrowing StreamSocket, _ data: inout BlockData,
    until moment: UInt64
  ) throws(StoreError) {
    let isError = type & NBDWire.ChunkType.errorBit != 0
    guard Self.mayHave(byteCount, type, isLast: isLast) else {
      throw .nbd(.illegalChunkLength(type: type, byteCount: byteCount))
    }
    switch type {
    case NBDWire.ChunkType.none: return
    case NBDWire.ChunkType.data:
      let offset = try receive(8, from: socket, until: moment).bigEndian(UInt64.self, at: 0)
      try Self.fill(try place(offset, byteCount - 8, type), of: &data, from: socket, until: moment)
    case NBDWire.ChunkType.hole:
      let hole = try receive(12, from: socket, until: moment)
      try data.zero(try place(hole.bigEndian(at: 0), hole.bigEndian(at: 8), type))
    case _ where isError:
      let bytes = try receive(Int(byteCount), from: socket, until: moment)
      let length = Int(bytes.bigEndian(UInt16.self, at: 4))
      guard length <= bytes.count - 6 else {
        throw .nbd(.illegalChunkLength(type: type, byteCount: byteCount))
      }
      failure = failure ?? Self.refusal(bytes.bigEndian(at: 0), bytes.text(6..<6 + length))
    default: throw .nbd(.unexpectedReply(type: type))
    }
  }

  private static func mayHave(_ byteCount: UInt32, _ type: UInt16, isLast: Bool) -> Bool {
    switch type {
    case NBDWire.ChunkType.none: byteCount == 0 && isLast
    case NBDWire.ChunkType.data: byteCount > 8
    case NBDWire.ChunkType.hole: byteCount == 12
    case _ where type & NBDWire.ChunkType.errorBit != 0: (6...UInt32(NBDWire.longestText + 14)).contains(byteCount)
    default: true
    }
  }

  /// Where in the data the bytes of a chunk belong.
  private mutating func place(_ offset: UInt64, _ byteCount: UInt32, _ type: UInt16) throws(StoreError) -> Range<Int> {
    guard case .filled(let part) = request.payload else { throw .nbd(.unexpectedReply(type: type)) }
    guard offset >= request.offset, byteCount > 0, byteCount <= request.byteCount,
      offset - request.offset <= UInt64(request.byteCount - byteCount)
    else { throw .nbd(.chunkOutside(at: offset, byteCount: UInt64(byteCount))) }
    let start = part.lowerBound + Int(offset - request.offset)
    let range = start..<start + Int(byteCount)
    do {
      try coverage.add(range)
    } catch {
      throw .nbd(error == .overlap ? .chunksOverlap(at: offset) : .tooManyPieces)
    }
    return range
  }

  private func finish() throws(StoreError) -> NBDError? {
    if let failure { return failure }
    guard case .filled(let part) = request.payload, coverage.byteCount < part.count else { return nil }
    throw .nbd(.incomplete(missingByteCount: part.count - coverage.byteCount))
  }

  /// An error number of 0 in an error chunk is an error all the same.
  private static func refusal(_ number: UInt32, _ message: String) -> NBDError {
    number == NBDWire.stopping ? .stopping : .refused(number: number, message: message)
  }

  private func receive(
    _ byteCount: Int, from socket: borrowing StreamSocket, until moment: UInt64
  ) throws(StoreError) -> [UInt8] {
    do {
      return try socket.receive(byteCount, until: moment)
    } catch {
      throw .nbd(error)
    }
  }

  /// From the socket to the driver's memory, without a copy in between.
  private static func fill(
    _ part: Range<Int>, of data: inout BlockData, from socket: borrowing StreamSocket, until moment: UInt64
  ) throws(StoreError) {
    _ = try data.fill(part) { (vectors) throws(StoreError) in
      do throws(LinuxError) {
        try socket.receive(into: vectors, within: MonotonicClock.timeLeft(until: moment))
      } catch {
        throw .nbd(NBDError(error))
      }
      return part.count
    }
  }
}

/// Which bytes of a reply have come, as ranges in order that do not touch.
struct NBDCoverage {
  enum Refusal: Error {
    case overlap, tooManyPieces
  }

  /// The most pieces that lie apart.
  static let mostPieces = 1024

  private(set) var byteCount = 0
  private var pieces: [Range<Int>] = []

  /// - Parameter range: not empty.
  mutating func add(_ range: Range<Int>) throws(Refusal) {
    var index = pieces.partitioningIndex { $0.upperBound >= range.lowerBound }
    var merged = range
    if index < pieces.count, pieces[index].upperBound == range.lowerBound {
      merged = pieces[index].lowerBound..<range.upperBound
      guard index + 1 == pieces.count || pieces[index + 1].lowerBound >= range.upperBound else { throw .overlap }
      pieces.remove(at: index)
    }
    if index < pieces.count, pieces[index].lowerBound <= range.upperBound {
      guard pieces[index].lowerBound == range.upperBound else { throw .overlap }
      merged = merged.lowerBound..<pieces[index].upperBound
      pieces.remove(at: index)
    }
    guard pieces.count < Self.mostPieces else { throw .tooManyPieces }
    index = min(index, pieces.count)
    pieces.insert(merged, at: index)
    byteCount += range.count
  }
}

extension [Range<Int>] {
  /// The first index whose element fulfils a condition that all behind it fulfil too.
  fileprivate func partitioningIndex(where isBehind: (Range<Int>) -> Bool) -> Int {
    var (low, high) = (0, count)
    while low < high {
      let middle = (low + high) / 2
      if isBehind(self[middle]) { high = middle } else { low = middle + 1 }
    }
    return low
  }
}
