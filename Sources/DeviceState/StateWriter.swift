/// Writes the fields that a state shows it into one array of bytes.
public struct StateWriter: StateCoder {
  private var bytes: [UInt8] = []
  private let section: String
  private let version: Int
  var path = StatePath()

  init(section: String, version: Int) {
    self.section = section
    self.version = version
    bytes.reserveCapacity(1024)
  }

  public mutating func field<V: StateValue>(_ name: StaticString, _ value: inout V) throws(StateError) {
    begin(name.description, V.stateType)
    try value.writeState(to: &self)
    path.leave()
  }

  public mutating func field<V: StateValue>(
    _ name: StaticString, _ value: inout V, since: Int, else absent: V
  ) throws(StateError) {
    if since <= version { return try field(name, &value) }
    guard value == absent else {
      path.enter(name.description)
      throw .fieldNewerThanVersion(section: section, field: path.text, since: since, version: version)
    }
  }

  /// The bytes written, which no reader will refuse for their length.
  consuming func finish() throws(StateError) -> [UInt8] {
    try check(bytes.count, within: StateLimits.payloadByteCount)
    return bytes
  }

  /// Where the next byte goes, counted from the start of the payload.
  var place: StatePlace { StatePlace(section: section, field: path.text, offset: bytes.count) }

  // MARK: - For values

  mutating func append<T: FixedWidthInteger>(_ value: T) { bytes.append(littleEndian: value) }
  mutating func append(contentsOf content: some Sequence<UInt8>) { bytes.append(contentsOf: content) }

  /// Writes what stands before a field's value, and enters its path.
  mutating func begin(_ name: String, _ type: StateType) {
    path.enter(name)
    bytes.append(name: name)
    type.append(to: &bytes)
  }

  mutating func openArray(of count: Int) throws(StateError) -> Int {
    try check(count, within: StateLimits.elementCount)
    let start = open()
    append(UInt32(count))
    return start
  }

  /// Leaves room for a length; `close` with the answer fills it in.
  mutating func open() -> Int {
    append(0 as UInt32)
    return bytes.count
  }

  mutating func close(_ start: Int) throws(StateError) {
    let byteCount = bytes.count - start
    try check(byteCount, within: StateLimits.payloadByteCount)
    for index in 0..<4 { bytes[start - 4 + index] = UInt8(truncatingIfNeeded: byteCount >> (8 * index)) }
  }

  func check(_ count: Int, within limit: Int) throws(StateError) {
    guard count <= limit else { throw .countBeyondLimit(place, count: count, limit: limit) }
  }
}

extension [UInt8] {
  mutating func append<T: FixedWidthInteger>(littleEndian value: T) {
    for shift in stride(from: 0, to: T.bitWidth, by: 8) { append(UInt8(truncatingIfNeeded: value >> shift)) }
  }

  /// One byte of length and the name. Names of fields and sections are ours, so a long one is a mistake in the code.
  mutating func append(name: String) {
    let utf8 = name.utf8
    precondition(utf8.count <= StateLimits.nameByteCount, "a name of more than 255 bytes: \(name)")
    append(UInt8(utf8.count))
    append(contentsOf: utf8)
  }
}
