/// What came of playing a recording again.
public struct ReplayResult: Equatable, Sendable {
  /// How many calls of the device did the same as when they were recorded.
  public let stepCount: Int
  /// The first that did not; nil when all did.
  public let difference: ReplayDifference?
}

/// The first thing that a device did otherwise than when it was recorded.
public struct ReplayDifference: Equatable, Sendable {
  /// Which call of the device it was, counted from 1.
  public let step: Int
  /// Where the call stands in the recording, in bytes.
  public let place: Int
  /// What the device was called for.
  public let call: String
  /// The queue on which it did otherwise, if it was on one.
  public let queue: Int?
  /// What was recorded.
  public let expected: String
  /// What it did now.
  public let found: String
}

extension ReplayDifference: CustomStringConvertible {
  public var description: String {
    let queueName = queue.map { ", queue \($0)" } ?? ""
    return "step \(step) (\(call), byte \(place))\(queueName): recorded: \(expected); now: \(found)"
  }
}

/// Two things that ought to be the same, in words.
struct Discrepancy: Equatable {
  var queue: Int?
  let expected: String
  let found: String
}

extension Outcome {
  /// The first difference to another outcome, which is what happened now; nil when there is none.
  func discrepancy(to other: Outcome) -> Discrepancy? {
    for (expected, found) in zip(queues, other.queues) {
      if let difference = expected.discrepancy(to: found) { return difference }
    }
    if let missing = queues.dropFirst(other.queues.count).first {
      return Discrepancy(queue: Int(missing.index), expected: missing.summary, found: "nothing")
    }
    if let extra = other.queues.dropFirst(queues.count).first {
      return Discrepancy(queue: Int(extra.index), expected: "nothing", found: extra.summary)
    }
    if failure != other.failure { return Discrepancy(expected: Self.words(failure), found: Self.words(other.failure)) }
    if config != other.config { return Discrepancy(expected: configWords, found: other.configWords) }
    guard hasFound != other.hasFound else { return nil }
    return Discrepancy(expected: hasFound ? "news" : "no news", found: other.hasFound ? "news" : "no news")
  }

  private static func words(_ failure: String) -> String { failure.isEmpty ? "the device goes on" : failure }

  private var configWords: String {
    guard !config.isEmpty else { return "the configuration as before" }
    return "configuration " + config.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }
}

extension QueueOutcome {
  func discrepancy(to other: QueueOutcome) -> Discrepancy? {
    if self == other { return nil }
    guard index == other.index else {
      return Discrepancy(
        expected: "queue \(index): \(summary)", found: "queue \(other.index): \(other.summary)")
    }
    for (expected, found) in zip(used, other.used) where expected != found {
      return Discrepancy(queue: Int(index), expected: "\(expected)", found: "\(found)")
    }
    return Discrepancy(queue: Int(index), expected: summary, found: other.summary)
  }

  fileprivate var summary: String { "\(used.count) chains given back, the next to take is \(nextAvailable)" }
}

extension UsedChain: CustomStringConvertible {
  var description: String {
    "chain \(head) given back with \(byteCount) bytes, checksum \(String(digest, radix: 16))"
  }
}
