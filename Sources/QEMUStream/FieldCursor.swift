/// Reads the body of a section and notes every value that it finds there, with its name and place.
struct FieldCursor {
  let section: String
  /// The offset in the stream of the body's first byte.
  let origin: UInt64
  let bytes: [UInt8]
  var position = 0
  private(set) var fields: [StreamField] = []
  private var path: [String] = []
  /// The length of the names in `path`, each with a dot.
  private(set) var pathByteCount = 0

  init(_ bytes: [UInt8], section: String, origin: UInt64) {
    self.bytes = bytes
    self.section = section
    self.origin = origin
  }

  var remaining: Int { bytes.count - position }
  var isAtEnd: Bool { position == bytes.count }
  var place: StreamPlace { place("") }

  func place(_ name: String) -> StreamPlace {
    StreamPlace(section: section, field: full(name), offset: origin + UInt64(position))
  }

  /// Everything that `body` reads has a name below this one.
  mutating func group<Result>(
    _ name: String, _ body: (inout FieldCursor) throws(QEMUStreamError) -> Result
  ) throws(QEMUStreamError) -> Result {
    path.append(name)
    pathByteCount += name.utf8.count + 1
    defer { pathByteCount -= path.removeLast().utf8.count + 1 }
    return try body(&self)
  }

  private func full(_ name: String) -> String {
    guard let prefix = path.last else { return name }
    let head = path.count == 1 ? prefix : path.joined(separator: ".")
    return name.isEmpty ? head : head + "." + name
  }

  mutating func need(_ byteCount: Int, _ name: String) throws(QEMUStreamError) {
    guard byteCount <= remaining else { throw .truncated(place(name), missing: byteCount - remaining) }
  }

  private mutating func note(_ name: String, _ byteCount: Int, _ value: StreamField.Value) throws(QEMUStreamError) {
    let start = position - byteCount
    guard fields.count < StreamLimits.fieldCount else {
      throw .beyondLimit(place(name), value: UInt64(fields.count) + 1, limit: UInt64(StreamLimits.fieldCount))
    }
    fields.append(
      StreamField(name: full(name), offset: origin + UInt64(start), byteCount: byteCount, value: value))
  }

  /// A number that is not noted as a field.
  private mutating func number(_ byteCount: Int, _ name: String, isLittleEndian: Bool) throws(QEMUStreamError) -> UInt64
  {
    try need(byteCount, name)
    var value: UInt64 = 0
    let range = position..<position + byteCount
    for index in range {
      let byte = bytes[isLittleEndian ? range.upperBound - 1 - (index - range.lowerBound) : index]
      value = value << 8 | UInt64(byte)
    }
    position += byteCount
    return value
  }

  /// An unsigned integer, big-endian if nothing else is said.
  @discardableResult
  mutating func integer<T: FixedWidthInteger & UnsignedInteger>(
    _: T.Type, _ name: String, isLittleEndian: Bool = false
  ) throws(QEMUStreamError) -> T {
    let byteCount = T.bitWidth / 8
    let value = try number(byteCount, name, isLittleEndian: isLittleEndian)
    try note(name, byteCount, .unsigned(value))
    return T(truncatingIfNeeded: value)
  }

  /// A signed integer of up to eight bytes.
  mutating func signed(_ byteCount: Int, _ name: String) throws(QEMUStreamError) {
    let value = try number(byteCount, name, isLittleEndian: false)
    let shift = UInt64(64 - 8 * byteCount)
    try note(name, byteCount, .signed(Int64(bitPattern: value << shift) >> Int64(shift)))
  }

  /// An unsigned integer of up to eight bytes.
  mutating func unsigned(_ byteCount: Int, _ name: String) throws(QEMUStreamError) {
    let value = try number(byteCount, name, isLittleEndian: false)
    try note(name, byteCount, .unsigned(value))
  }

  @discardableResult
  mutating func bytes(_ byteCount: Int, _ name: String) throws(QEMUStreamError) -> [UInt8] {
    try need(byteCount, name)
    let value = Array(bytes[position..<position + byteCount])
    position += byteCount
    try note(name, byteCount, .bytes(value))
    return value
  }

  /// Passes over bytes that are there.
  mutating func skip(_ byteCount: Int) { position += byteCount }

  /// A name after its length of one byte.
  mutating func name(_ name: String) throws(QEMUStreamError) -> String {
    let start = place(name)
    try need(1, name)
    let byteCount = Int(bytes[position])
    try need(1 + byteCount, name)
    let content = bytes[position + 1..<position + 1 + byteCount]
    guard let text = String(validating: content, as: UTF8.self) else {
      throw .invalid(start, reason: "a name that is not UTF-8")
    }
    position += 1 + byteCount
    return text
  }

  /// Passes over records that are all zero and calls `body` for each other.
  mutating func records(
    _ name: String, count: Int, byteCount: Int,
    _ body: (inout FieldCursor) throws(QEMUStreamError) -> Void
  ) throws(QEMUStreamError) {
    try need(count * byteCount, name)
    for index in 0..<count {
      let end = position + byteCount
      if !bytes[position..<end].allSatisfy({ $0 == 0 }) { try group("\(name)[\(index)]", body) }
      position = end
    }
  }

  /// Whether so many bytes on there is this byte, or the end.
  func continues(after distance: Int, with byte: UInt8) -> Bool {
    let place = position + distance
    return place == bytes.count || (place < bytes.count && bytes[place] == byte)
  }

  func byte(at place: Int) -> UInt8? { bytes.indices.contains(place) ? bytes[place] : nil }
}
