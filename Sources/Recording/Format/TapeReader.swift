/// Reads records from bytes that may be anything, and knows where it stands.
struct TapeReader: TapeCoder {
  let format: UInt8
  private let source: [UInt8]
  private(set) var position: Int
  private let end: Int
  /// How many bytes may still come of runs of zeros.
  private var room = TapeLimits.recordByteCount

  init(_ source: [UInt8], _ range: Range<Int>, format: UInt8 = TapeFrames.format) {
    self.source = source
    self.format = format
    position = range.lowerBound
    end = range.upperBound
  }

  /// The one record that stands at a place of a file.
  static func record<Value: TapeRecord>(
    _: Value.Type, in source: [UInt8], at range: Range<Int>, format: UInt8 = TapeFrames.format
  ) throws(RecordingError) -> Value {
    var reader = TapeReader(source, range, format: format)
    var value = Value()
    try value.code(with: &reader)
    guard reader.position == reader.end else { throw reader.malformed("a record is longer than what it holds") }
    return value
  }

  func malformed(_ reason: String) -> RecordingError { .malformed(at: position, reason) }

  mutating func number<Number: FixedWidthInteger & UnsignedInteger>(_ value: inout Number) throws(RecordingError) {
    let start = position
    var number: UInt64 = 0
    var shift: UInt64 = 0
    while true {
      let byte = try byte()
      guard shift < 63 || byte <= 1 else { throw .malformed(at: start, "a number has more than 64 bits") }
      number |= UInt64(byte & 0x7F) << shift
      if byte & 0x80 == 0 { break }
      shift += 7
    }
    guard let exact = Number(exactly: number) else {
      throw .malformed(at: start, "\(number) is too large for \(Number.bitWidth) bits")
    }
    value = exact
  }

  mutating func flag(_ value: inout Bool) throws(RecordingError) {
    let byte = try byte()
    guard byte <= 1 else { throw .malformed(at: position - 1, "\(byte) is neither 0 nor 1") }
    value = byte == 1
  }

  mutating func bytes(_ value: inout [UInt8]) throws(RecordingError) {
    let total = try count(upTo: min(TapeLimits.contentByteCount, room))
    room -= total
    value = []
    while value.count < total {
      let zeros = try count(upTo: total - value.count)
      value.append(contentsOf: repeatElement(0, count: zeros))
      let others = try count(upTo: min(total - value.count, end - position))
      guard zeros + others > 0 else { throw malformed("a run of no bytes") }
      value.append(contentsOf: source[position..<position + others])
      position += others
    }
  }

  mutating func list<Element: TapeRecord>(_ value: inout [Element]) throws(RecordingError) {
    // Each element takes a byte at least.
    let total = try count(upTo: min(TapeLimits.elementCount, end - position))
    value = []
    for _ in 0..<total {
      var element = Element()
      try element.code(with: &self)
      value.append(element)
    }
  }

  mutating func optional<Value: TapeRecord>(_ value: inout Value?) throws(RecordingError) {
    var isThere = false
    try flag(&isThere)
    value = nil
    guard isThere else { return }
    var found = Value()
    try found.code(with: &self)
    value = found
  }

  private mutating func count(upTo limit: Int) throws(RecordingError) -> Int {
    let start = position
    var number: UInt64 = 0
    try self.number(&number)
    guard number <= UInt64(limit) else {
      throw .malformed(at: start, "a count of \(number), where at most \(limit) can be")
    }
    return Int(number)
  }

  private mutating func byte() throws(RecordingError) -> UInt8 {
    guard position < end else { throw malformed("a record ends too early") }
    defer { position += 1 }
    return source[position]
  }
}
