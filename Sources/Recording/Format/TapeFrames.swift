import DeviceState

/// What a record is about.
enum TapeKind: UInt8 {
  /// Which device it was, and how it was made: always first.
  case setup
  /// A call of the device, and what it found.
  case call
  /// What came of the call before it.
  case outcome
  /// The last record: how many there were.
  case end
}

/// The frame of records: eight bytes that say what the file is, then for each record its length in four bytes, its kind,
/// its contents, and a checksum over all of the file up to there.
enum TapeFrames {
  /// A name, and bytes that a transport of text would change.
  static let start: [UInt8] = Array("VREC".utf8) + [0x0D, 0x0A, 0x1A]
  /// The newest format. Since 2 a call has the decisions to notify that were made since the one before.
  static let format: UInt8 = 2
  static let oldestFormat: UInt8 = 1
  static var preamble: [UInt8] { preamble(of: format) }

  static func preamble(of format: UInt8) -> [UInt8] { start + [format] }

  /// The format that a file says it has.
  static func format(of file: [UInt8]) -> UInt8? { file.count > start.count ? file[start.count] : nil }

  static func append(_ kind: TapeKind, _ contents: [UInt8], _ checksum: inout UInt32, to output: inout [UInt8]) {
    var frame = littleEndian(UInt32(contents.count)) + [kind.rawValue]
    frame.append(contentsOf: contents)
    checksum = CRC32C.checksum(frame, after: checksum)
    output.append(contentsOf: frame)
    output.append(contentsOf: littleEndian(checksum))
  }

  static func littleEndian(_ value: UInt32) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
  }
}

/// One record in a file.
struct TapeFrame {
  let kind: TapeKind
  /// Where its contents stand.
  let range: Range<Int>
}

extension TapeFrames {
  static let headByteCount = 5
  static let checksumByteCount = 4

  /// Takes a file apart, and refuses one of which a byte is not as it was written.
  static func frames(of file: [UInt8]) throws(RecordingError) -> [TapeFrame] {
    guard file.starts(with: start.prefix(file.count)), !file.isEmpty else { throw .notARecording }
    guard file.count >= preamble.count else { throw .cut(at: file.count) }
    guard (oldestFormat...format).contains(file[start.count]) else { throw .unknownFormat(file[start.count]) }
    var checksum = CRC32C.checksum(file.prefix(preamble.count))
    var frames: [TapeFrame] = []
    var place = preamble.count
    while frames.last?.kind != .end { frames.append(try frame(of: file, &place, &checksum)) }
    guard place == file.count else { throw .excess(at: place, byteCount: file.count - place) }
    return frames
  }

  private static func frame(
    of file: [UInt8], _ place: inout Int, _ checksum: inout UInt32
  ) throws(RecordingError) -> TapeFrame {
    let start = place
    guard file.count - start >= headByteCount + checksumByteCount else { throw .cut(at: file.count) }
    let length = Int(number(file, at: start))
    guard length <= TapeLimits.recordByteCount else {
      throw .malformed(at: start, "a record of \(length) bytes, where at most \(TapeLimits.recordByteCount) can be")
    }
    guard file.count - start >= headByteCount + length + checksumByteCount else { throw .cut(at: file.count) }
    let end = start + headByteCount + length
    checksum = CRC32C.checksum(file[start..<end], after: checksum)
    guard number(file, at: end) == checksum else { throw .damaged(at: start) }
    guard let kind = TapeKind(rawValue: file[start + 4]) else {
      throw .malformed(at: start + 4, "a record of kind \(file[start + 4]), which is not known here")
    }
    place = end + checksumByteCount
    return TapeFrame(kind: kind, range: start + headByteCount..<end)
  }

  private static func number(_ file: [UInt8], at place: Int) -> UInt32 {
    (0..<4).reduce(0) { $0 | UInt32(file[place + $1]) << UInt32(8 * $1) }
  }
}
