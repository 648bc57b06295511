import GuestRAM
import VirtioCore

/// Shows the parts of a record to whoever writes or reads it, always in the same order.
///
/// Numbers take a byte for each seven bits, lists and bytes their count first, and runs of zeros next to nothing.
protocol TapeCoder {
  /// The format of the recording, of which an older one has less.
  var format: UInt8 { get }
  /// The error for what has just been read and makes no sense.
  func malformed(_ reason: String) -> RecordingError
  mutating func number<Number: FixedWidthInteger & UnsignedInteger>(_ value: inout Number) throws(RecordingError)
  mutating func flag(_ value: inout Bool) throws(RecordingError)
  mutating func bytes(_ value: inout [UInt8]) throws(RecordingError)
  mutating func list<Element: TapeRecord>(_ value: inout [Element]) throws(RecordingError)
  mutating func optional<Value: TapeRecord>(_ value: inout Value?) throws(RecordingError)
}

/// What stands in a recording, declared once for writing and reading.
protocol TapeRecord {
  /// What a reader fills.
  init()
  mutating func code(with coder: inout some TapeCoder) throws(RecordingError)
}

extension TapeCoder {
  mutating func record<Value: TapeRecord>(_ value: inout Value) throws(RecordingError) {
    try value.code(with: &self)
  }

  mutating func text(_ value: inout String) throws(RecordingError) {
    var utf8 = Array(value.utf8)
    try bytes(&utf8)
    value = String(decoding: utf8, as: UTF8.self)
  }

  mutating func features(_ value: inout Features) throws(RecordingError) {
    try number(&value.low)
    try number(&value.high)
  }

  mutating func address(_ value: inout GuestAddress) throws(RecordingError) {
    var raw = value.rawValue
    try number(&raw)
    value = GuestAddress(raw)
  }

  /// A list of numbers.
  mutating func numbers(_ value: inout [UInt64]) throws(RecordingError) {
    var boxes = value.map(TapeNumber.init)
    try list(&boxes)
    value = boxes.map(\.value)
  }
}

private struct TapeNumber: TapeRecord {
  var value: UInt64 = 0

  init() {}

  init(_ value: UInt64) { self.value = value }

  mutating func code(with coder: inout some TapeCoder) throws(RecordingError) {
    try coder.number(&value)
  }
}
