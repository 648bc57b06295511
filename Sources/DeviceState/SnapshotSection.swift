/// One state in a snapshot: whose it is, in which version, and its bytes.
public struct SnapshotSection: Equatable, Sendable {
  public let name: String
  /// Which of several devices of a kind; empty when there is one.
  public let instance: String
  public let version: Int
  /// Whether a reader that does not know the section may leave it alone.
  public let isOptional: Bool
  /// The fields. `StateTree(decoding:)` shows them without the code that wrote them.
  public let payload: [UInt8]
  /// Where the payload stands in the snapshot it was decoded from; 0 for a section that was not.
  let payloadOffset: Int

  private static let optionalFlag: UInt16 = 1

  /// A section of bytes that came from elsewhere. Throws `invalidName` or `countBeyondLimit`, or
  /// `unsupportedSectionVersion` below 1 and above the 32 bits that a version has.
  public init(
    name: String, instance: String = "", version: Int, isOptional: Bool = false, payload: [UInt8]
  ) throws(StateError) {
    guard 1...StateLimits.nameByteCount ~= name.utf8.count else { throw .invalidName(name: name) }
    guard instance.utf8.count <= StateLimits.nameByteCount else { throw .invalidName(name: instance) }
    self.init(name, instance, version, isOptional, payload, payloadOffset: 0)
    guard 1...Int(UInt32.max) ~= version else {
      throw .unsupportedSectionVersion(section: label, version: version, newest: Int(UInt32.max))
    }
    guard payload.count <= StateLimits.payloadByteCount else {
      let place = StatePlace(section: label, field: "", offset: 0)
      throw .countBeyondLimit(place, count: payload.count, limit: StateLimits.payloadByteCount)
    }
  }

  private init(
    _ name: String, _ instance: String, _ version: Int, _ isOptional: Bool, _ payload: [UInt8], payloadOffset: Int
  ) {
    self.name = name
    self.instance = instance
    self.version = version
    self.isOptional = isOptional
    self.payload = payload
    self.payloadOffset = payloadOffset
  }

  /// `name` or `name/instance`: how errors call the section.
  public var label: String { Self.label(name, instance) }

  static func label(_ name: String, _ instance: String) -> String {
    instance.isEmpty ? name : "\(name)/\(instance)"
  }

  var cursor: ByteCursor { ByteCursor(payload, section: label, origin: payloadOffset) }

  public static func == (a: SnapshotSection, b: SnapshotSection) -> Bool {
    (a.name, a.instance, a.version, a.isOptional) == (b.name, b.instance, b.version, b.isOptional)
      && a.payload == b.payload
  }

  // MARK: - On the wire

  func append(to bytes: inout [UInt8]) {
    bytes.append(littleEndian: UInt16(18 + name.utf8.count + instance.utf8.count))
    bytes.append(littleEndian: isOptional ? Self.optionalFlag : 0)
    bytes.append(littleEndian: UInt32(version))
    bytes.append(littleEndian: UInt32(payload.count))
    bytes.append(littleEndian: CRC32C.checksum(payload))
    bytes.append(name: name)
    bytes.append(name: instance)
    bytes.append(contentsOf: payload)
  }

  init(from cursor: inout ByteCursor) throws(StateError) {
    let headerByteCount = Int(try cursor.integer(UInt16.self))
    let outerEnd = try cursor.open(byteCount: max(0, headerByteCount - 2))
    let flagsPlace = cursor.place
    let flags = try cursor.integer(UInt16.self)
    let version = Int(try cursor.integer(UInt32.self))
    let byteCount = Int(try cursor.integer(UInt32.self))
    let checksum = try cursor.integer(UInt32.self)
    let name = try cursor.name()
    let instance = try cursor.name()
    try cursor.close(outerEnd)
    let label = Self.label(name, instance)
    guard !name.isEmpty else { throw .invalidName(name: name) }
    guard flags & ~Self.optionalFlag == 0 else { throw .unknownFlags(flagsPlace, flags: flags) }

    let payloadOffset = cursor.position
    let payload = try cursor.payload(byteCount: byteCount, section: label)
    let found = CRC32C.checksum(payload)
    guard found == checksum else { throw .checksumMismatch(section: label, expected: checksum, found: found) }
    self.init(name, instance, version, flags & Self.optionalFlag != 0, payload, payloadOffset: payloadOffset)
  }
}
