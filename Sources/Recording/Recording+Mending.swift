import DeviceState

extension Recording {
  /// A file whose records are those that another has, as far as it has any, with checksums and an end that fit. Of a call of
  /// which nothing came, since the device crashed or the file was cut there, it says that it did nothing.
  ///
  /// For files that were cut, and for fuzzers and tests, which otherwise would only ever get as far as a checksum.
  public static func mended(_ file: [UInt8]) throws(RecordingError) -> [UInt8] {
    let format = TapeFrames.format(of: file) == TapeFrames.oldestFormat ? TapeFrames.oldestFormat : TapeFrames.format
    var mended = TapeFrames.preamble(of: format)
    var checksum = CRC32C.checksum(mended)
    let frames = TapeFrames.anyFrames(of: file).filter { $0.0 != .end }
    for (kind, contents) in frames { TapeFrames.append(kind, contents, &checksum, to: &mended) }
    if frames.last?.0 == .call {
      TapeFrames.append(.outcome, try TapeWriter.bytes(of: TapeOutcome()), &checksum, to: &mended)
    }
    let end = TapeEnd(callCount: UInt64(frames.count { $0.0 == .call }))
    TapeFrames.append(.end, try TapeWriter.bytes(of: end), &checksum, to: &mended)
    return mended
  }
}

extension TapeFrames {
  /// What looks like records, whatever their checksums. One that does not end is left out.
  fileprivate static func anyFrames(of file: [UInt8]) -> [(TapeKind, [UInt8])] {
    var frames: [(TapeKind, [UInt8])] = []
    var rest = file.dropFirst(preamble.count)
    while rest.count > headByteCount {
      let length = Int(rest.prefix(4).reversed().reduce(0 as UInt32) { $0 << 8 | UInt32($1) })
      let kind = TapeKind(rawValue: rest[rest.startIndex + 4])
      rest = rest.dropFirst(headByteCount)
      guard rest.count >= length + checksumByteCount else { break }
      if let kind { frames.append((kind, Array(rest.prefix(length)))) }
      rest = rest.dropFirst(length + checksumByteCount)
    }
    return frames
  }
}
