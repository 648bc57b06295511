extension Snapshot {
  /// The snapshot as bytes, in the newest format.
  public func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(sections.reduce(64) { $0 + $1.payload.count + 64 })
    SnapshotHeader.append(
      producer: producer, producerVersion: producerVersion, sectionCount: sections.count, to: &bytes)
    for section in sections { section.append(to: &bytes) }
    bytes.append(littleEndian: CRC32C.checksum(bytes))
    return bytes
  }

  /// The snapshot that the bytes hold, with its frame and checksums proven; the fields are proven when they are read.
  public init(decoding bytes: [UInt8]) throws(StateError) {
    var cursor = ByteCursor(bytes, section: "")
    let header = try SnapshotHeader(from: &cursor)
    guard header.formatVersion == SnapshotHeader.formatVersion else {
      throw .unsupportedFormat(
        version: header.formatVersion, newest: SnapshotHeader.formatVersion,
        producer: "\(header.producer) \(header.producerVersion)")
    }
    guard header.sectionCount <= StateLimits.sectionCount else {
      throw .countBeyondLimit(
        StatePlace(section: "", field: "header", offset: 12), count: header.sectionCount,
        limit: StateLimits.sectionCount)
    }
    self.init(producer: header.producer, producerVersion: header.producerVersion)
    for _ in 0..<header.sectionCount { try add(SnapshotSection(from: &cursor)) }

    let end = cursor.position
    let expected = try cursor.integer(UInt32.self)
    guard cursor.isAtEnd else { throw .trailingBytes(cursor.place, byteCount: cursor.remaining) }
    let found = CRC32C.checksum(bytes[..<end])
    guard found == expected else { throw .checksumMismatch(section: "", expected: expected, found: found) }
  }
}
