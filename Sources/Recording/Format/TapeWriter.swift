/// Writes records.
struct TapeWriter: TapeCoder {
  let format = TapeFrames.format
  private(set) var output: [UInt8] = []

  /// The bytes of one record.
  static func bytes(of record: some TapeRecord) throws(RecordingError) -> [UInt8] {
    var writer = TapeWriter()
    var record = record
    try record.code(with: &writer)
    return writer.output
  }

  func malformed(_ reason: String) -> RecordingError { .malformed(at: output.count, reason) }

  mutating func number<Number: FixedWidthInteger & UnsignedInteger>(_ value: inout Number) {
    var rest = UInt64(value)
    while rest > 0x7F {
      output.append(UInt8(rest & 0x7F) | 0x80)
      rest >>= 7
    }
    output.append(UInt8(rest))
  }

  mutating func flag(_ value: inout Bool) {
    output.append(value ? 1 : 0)
  }

  /// The length, then zeros and other bytes in turn until it is reached: how many zeros, how many others, the others.
  mutating func bytes(_ value: inout [UInt8]) throws(RecordingError) {
    guard value.count <= TapeLimits.contentByteCount else {
      throw .tooMuch("bytes at one place", count: value.count, limit: TapeLimits.contentByteCount)
    }
    count(value.count)
    var place = 0
    while place < value.count {
      let end = endOfZeros(value, place)
      count(end - place)
      place = end
      let others = endOfOthers(value, place)
      count(others - place)
      output.append(contentsOf: value[place..<others])
      place = others
    }
  }

  mutating func list<Element: TapeRecord>(_ value: inout [Element]) throws(RecordingError) {
    guard value.count <= TapeLimits.elementCount else {
      throw .tooMuch("elements of a list", count: value.count, limit: TapeLimits.elementCount)
    }
    count(value.count)
    for index in value.indices { try value[index].code(with: &self) }
  }

  mutating func optional<Value: TapeRecord>(_ value: inout Value?) throws(RecordingError) {
    var isThere = value != nil
    flag(&isThere)
    try value?.code(with: &self)
  }

  private mutating func count(_ count: Int) {
    var number = UInt64(count)
    self.number(&number)
  }

  private func endOfZeros(_ bytes: [UInt8], _ start: Int) -> Int {
    var end = start
    while end < bytes.count, bytes[end] == 0 { end += 1 }
    return end
  }

  /// Where there are zeros enough to be worth their count.
  private func endOfOthers(_ bytes: [UInt8], _ start: Int) -> Int {
    var end = start
    var zeros = 0
    while end < bytes.count, zeros < 4 {
      zeros = bytes[end] == 0 ? zeros + 1 : 0
      end += 1
    }
    return end - zeros
  }
}
