import VirtioCore

/// One call of a device model.
struct ModelCall: Equatable {
  /// The numbers stand in recordings; new ones go to the end.
  enum Kind: UInt8 {
    case start, setRunning, writeConfig, resetQueue, reset, adopt, order, serve, wake, poll
  }

  var kind = Kind.reset
  /// What the driver agreed to, of a start.
  var features: Features = []
  /// The queue, the offset, whether it runs, or the version of a state.
  var number: UInt32 = 0
  /// What was written, or a state.
  var content: [UInt8] = []
  /// What an operator wants.
  var act: Act?

  /// Whether the device is lent its queues.
  var hasQueues: Bool { kind == .serve || kind == .wake || kind == .poll }
}

extension ModelCall: CustomStringConvertible {
  var description: String {
    switch kind {
    case .start: "start with \(features)"
    case .setRunning: number == 0 ? "the last queue stops" : "the first queue starts"
    case .writeConfig: "write of \(content.count) bytes of configuration at \(number)"
    case .resetQueue: "reset of queue \(number)"
    case .reset: "reset"
    case .adopt: "adoption of a state"
    case .order: "order: \(act.map(\.description) ?? "none")"
    case .serve: "kick of queue \(number)"
    case .wake: "news of the outside"
    case .poll: "look for news of the outside"
    }
  }
}

extension ModelCall: TapeRecord {
  mutating func code(with coder: inout some TapeCoder) throws(RecordingError) {
    var raw = kind.rawValue
    try coder.number(&raw)
    guard let known = Kind(rawValue: raw) else {
      throw coder.malformed("a call of kind \(raw), which is not known here")
    }
    kind = known
    try coder.features(&features)
    try coder.number(&number)
    try coder.bytes(&content)
    try coder.optional(&act)
  }
}
