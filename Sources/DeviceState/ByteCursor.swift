/// Reads untrusted bytes forward, and knows how to say where it stands.
///
/// `end` is the end of the innermost thing that has a length: no read goes beyond it, whatever a length inside says.
struct ByteCursor {
  let section: String
  var path = StatePath()
  let source: [UInt8]
  private let origin: Int
  private(set) var position = 0
  private(set) var end: Int
  private var recordDepth = 0
  /// How many more values may be made trees of.
  var valuesLeft = StateLimits.valueCount

  /// - Parameter origin: the offset to report for the first byte.
  init(_ bytes: [UInt8], section: String, origin: Int = 0) {
    source = bytes
    self.section = section
    self.origin = origin
    end = bytes.count
  }

  var place: StatePlace { StatePlace(section: section, field: path.text, offset: origin + position) }
  var remaining: Int { end - position }
  var isAtEnd: Bool { position == end }

  // MARK: - Values

  mutating func integer<T: FixedWidthInteger>(_: T.Type) throws(StateError) -> T {
    let byteCount = T.bitWidth / 8
    guard byteCount <= remaining else { throw .truncated(place, missing: byteCount - remaining) }
    var value: UInt64 = 0
    for index in 0..<byteCount { value |= UInt64(source[position + index]) << (8 * index) }
    position += byteCount
    return T(truncatingIfNeeded: value)
  }

  mutating func bool() throws(StateError) -> Bool {
    let start = position
    switch try integer(UInt8.self) {
    case 0: return false
    case 1: return true
    case let other: throw .invalidBool(place(at: start), value: other)
    }
  }

  /// A `[UInt8]` value: its length, then the bytes.
  mutating func bytes() throws(StateError) -> [UInt8] {
    Array(source[try take(length(limit: StateLimits.bytesByteCount))])
  }

  /// The payload of a section, whose length its header has announced.
  mutating func payload(byteCount: Int, section: String) throws(StateError) -> [UInt8] {
    let place = StatePlace(section: section, field: "", offset: place.offset)
    guard byteCount <= StateLimits.payloadByteCount else {
      throw .countBeyondLimit(place, count: byteCount, limit: StateLimits.payloadByteCount)
    }
    guard byteCount <= remaining else {
      throw .lengthBeyondEnd(place, byteCount: byteCount, available: remaining)
    }
    return Array(source[try take(byteCount)])
  }

  /// A string value: its length, then UTF-8.
  mutating func string() throws(StateError) -> String {
    try utf8(take(length(limit: StateLimits.stringByteCount)))
  }

  /// A name: one byte of length, then UTF-8.
  mutating func name() throws(StateError) -> String {
    try utf8(take(Int(try integer(UInt8.self))))
  }

  /// Passes over a name if it is the expected one, without making a string of it.
  mutating func skip(name: String) -> Bool {
    let expected = name.utf8
    guard expected.count < remaining, Int(source[position]) == expected.count else { return false }
    let start = position + 1
    guard source[start..<start + expected.count].elementsEqual(expected) else { return false }
    position = start + expected.count
    return true
  }

  mutating func type(depth: Int = 0) throws(StateError) -> StateType {
    guard depth < StateLimits.nesting else { throw .nestedTooDeep(place) }
    let start = position
    switch try integer(UInt8.self) {
    case 1: return .bool
    case 2: return .u8
    case 3: return .u16
    case 4: return .u32
    case 5: return .u64
    case 6: return .i32
    case 7: return .i64
    case 8: return .string
    case 9: return .bytes
    case 10: return .record
    case 11: return .array(try type(depth: depth + 1))
    case 12: return .optional(try type(depth: depth + 1))
    case let tag: throw .unknownTypeTag(place(at: start), tag: tag)
    }
  }

  /// Counts a value that is going to be part of a tree, which takes many times its bytes.
  mutating func countValue() throws(StateError) {
    guard valuesLeft > 0 else {
      throw .countBeyondLimit(place, count: StateLimits.valueCount + 1, limit: StateLimits.valueCount)
    }
    valuesLeft -= 1
  }

  // MARK: - Lengths

  /// The count of an array whose elements are proven to fit in what remains, so it is safe to allocate for.
  mutating func elementCount(of element: StateType) throws(StateError) -> Int {
    let start = position
    let count = Int(try integer(UInt32.self))
    guard count <= StateLimits.elementCount else {
      throw .countBeyondLimit(place(at: start), count: count, limit: StateLimits.elementCount)
    }
    let byteCount = count * element.minimumByteCount
    guard byteCount <= remaining else {
      throw .lengthBeyondEnd(place(at: start), byteCount: byteCount, available: remaining)
    }
    return count
  }

  /// Enters what a length announces, and gives the end to hand to `close`.
  mutating func open() throws(StateError) -> Int {
    try open(byteCount: length(limit: StateLimits.payloadByteCount))
  }

  mutating func open(byteCount: Int) throws(StateError) -> Int {
    let start = position
    let inner = try take(byteCount)
    let outerEnd = end
    position = start
    end = inner.upperBound
    return outerEnd
  }

  mutating func close(_ outerEnd: Int) throws(StateError) {
    guard isAtEnd else { throw .trailingBytes(place, byteCount: remaining) }
    end = outerEnd
  }

  mutating func openRecord() throws(StateError) -> Int {
    guard recordDepth < StateLimits.nesting else { throw .nestedTooDeep(place) }
    recordDepth += 1
    return try open()
  }

  /// Enters what is left of the innermost thing, whatever length is announced.
  mutating func openRest(asRecord: Bool) throws(StateError) -> Int {
    guard !asRecord || recordDepth < StateLimits.nesting else { throw .nestedTooDeep(place) }
    _ = try integer(UInt32.self)
    if asRecord { recordDepth += 1 }
    return try open(byteCount: remaining)
  }

  mutating func closeRecord(_ outerEnd: Int) throws(StateError) {
    try close(outerEnd)
    recordDepth -= 1
  }

  /// Passes over what is left of the innermost thing.
  mutating func skipRest() { position = end }

  mutating func take(_ byteCount: Int) throws(StateError) -> Range<Int> {
    guard byteCount <= remaining else {
      throw .lengthBeyondEnd(place, byteCount: byteCount, available: remaining)
    }
    defer { position += byteCount }
    return position..<position + byteCount
  }

  private mutating func length(limit: Int) throws(StateError) -> Int {
    let start = position
    let length = Int(try integer(UInt32.self))
    guard length <= limit else { throw .countBeyondLimit(place(at: start), count: length, limit: limit) }
    guard length <= remaining else {
      throw .lengthBeyondEnd(place(at: start), byteCount: length, available: remaining)
    }
    return length
  }

  private func utf8(_ range: Range<Int>) throws(StateError) -> String {
    guard let string = String(validating: source[range], as: UTF8.self) else {
      throw .invalidUTF8(place(at: range.lowerBound))
    }
    return string
  }

  func place(at position: Int) -> StatePlace {
    StatePlace(section: section, field: path.text, offset: origin + position)
  }
}
