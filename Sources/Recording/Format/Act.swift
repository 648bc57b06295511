/// Something that is asked for: by a device of its outside, or by an operator of a device.
public struct Act: Equatable, Sendable {
  /// What is asked for. The numbers stand in recordings; new ones go to the end.
  public enum Kind: UInt8, Sendable {
    // A disk asks its store.
    case read, write, flush, discard, writeZeroes, setSize, refresh, setExclusive
    // A balloon asks its reclaimer and its clock.
    case giveUp, release, takeBack, resetReclaimer, time
    // An operator asks a disk, or a balloon.
    case resize, setTarget, requestStatistics, pollStatistics
    // A card asks its port, and an operator a card.
    case takenOffloads, portFailure, setGivenOffloads, send, receive, finishSending
    case setLink, setMTU, announce
  }

  public var kind: Kind
  /// What is to be known of it, as the device that it is about defines: places, lengths, digests.
  public var numbers: [UInt64]

  public init(_ kind: Kind, _ numbers: UInt64...) {
    self.kind = kind
    self.numbers = numbers
  }
}

extension Act: CustomStringConvertible {
  public var description: String {
    numbers.isEmpty ? "\(kind)" : "\(kind) " + numbers.map(String.init).joined(separator: ", ")
  }
}

extension Act: TapeRecord {
  init() { self.init(.flush) }

  mutating func code(with coder: inout some TapeCoder) throws(RecordingError) {
    var raw = kind.rawValue
    try coder.number(&raw)
    guard let known = Kind(rawValue: raw) else {
      throw coder.malformed("an act of kind \(raw), which is not known here")
    }
    kind = known
    try coder.numbers(&numbers)
  }
}

/// Numbers and bytes: what an act was answered with, or how a device was made.
public struct Answer: Equatable, Sendable {
  public var numbers: [UInt64]
  public var content: [UInt8]

  public init(_ numbers: [UInt64] = [], content: [UInt8] = []) {
    self.numbers = numbers
    self.content = content
  }
}

extension Answer: TapeRecord {
  init() { self.init([]) }

  mutating func code(with coder: inout some TapeCoder) throws(RecordingError) {
    try coder.numbers(&numbers)
    try coder.bytes(&content)
  }
}

/// What a device asked of its outside in the course of a call, and what it was told.
struct Exchange: Equatable, TapeRecord {
  var act = Act(.flush)
  var answer = Answer()

  mutating func code(with coder: inout some TapeCoder) throws(RecordingError) {
    try coder.record(&act)
    try coder.record(&answer)
  }
}
