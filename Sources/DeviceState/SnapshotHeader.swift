/// The beginning of every snapshot, of every format version there was and will be.
///
/// A later format may add to the header, after what is here; what is here never changes.
public struct SnapshotHeader: Equatable, Sendable {
  static let magic: [UInt8] = Array("VKSTATE".utf8) + [0x1A]
  /// The newest format version, which is the one written.
  public static let formatVersion = 1

  /// The bytes before the first section.
  public let byteCount: Int
  public let formatVersion: Int
  /// The program that wrote the snapshot, and its version: for people, not to decide anything by.
  public let producer: String
  public let producerVersion: String
  public let sectionCount: Int

  /// Reads the header of a snapshot, even one whose format this code does not know.
  public init(decoding bytes: [UInt8]) throws(StateError) {
    var cursor = ByteCursor(bytes, section: "")
    try self.init(from: &cursor)
  }

  init(from cursor: inout ByteCursor) throws(StateError) {
    cursor.path.enter("header")
    for byte in Self.magic where try cursor.integer(UInt8.self) != byte { throw .notASnapshot }
    byteCount = Int(try cursor.integer(UInt16.self))
    let read = cursor.position
    guard byteCount >= read else { throw .truncated(cursor.place, missing: read - byteCount) }
    let outerEnd = try cursor.open(byteCount: byteCount - read)
    formatVersion = Int(try cursor.integer(UInt16.self))
    sectionCount = Int(try cursor.integer(UInt32.self))
    producer = try cursor.name()
    producerVersion = try cursor.name()
    if formatVersion != Self.formatVersion { cursor.skipRest() }
    try cursor.close(outerEnd)
    cursor.path.leave()
  }

  static func append(producer: String, producerVersion: String, sectionCount: Int, to bytes: inout [UInt8]) {
    bytes.append(contentsOf: magic)
    bytes.append(littleEndian: UInt16(18 + producer.utf8.count + producerVersion.utf8.count))
    bytes.append(littleEndian: UInt16(formatVersion))
    bytes.append(littleEndian: UInt32(sectionCount))
    bytes.append(name: producer)
    bytes.append(name: producerVersion)
  }
}
