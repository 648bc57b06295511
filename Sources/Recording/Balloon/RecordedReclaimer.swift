public import Balloon
public import GuestRAM

/// A reclaimer that writes down what it is given and what comes of it.
public struct RecordedReclaimer<Base: PageReclaimer>: PageReclaimer {
  private var base: Base
  private let recorder: Recorder?

  init(_ base: Base, recorder: Recorder?) {
    self.base = base
    self.recorder = recorder
  }

  public mutating func giveUp(_ range: GuestRange, of memory: GuestMemory) throws(GuestMemoryError) -> UInt64 {
    try note(.giveUp, range) { () throws(GuestMemoryError) in try base.giveUp(range, of: memory) }
  }

  public mutating func release(_ range: GuestRange, of memory: GuestMemory) throws(GuestMemoryError) -> UInt64 {
    try note(.release, range) { () throws(GuestMemoryError) in try base.release(range, of: memory) }
  }

  public mutating func takeBack(_ range: GuestRange, of memory: GuestMemory) {
    base.takeBack(range, of: memory)
    recorder?.note(Act(.takeBack, range), Answer())
  }

  public mutating func reset() {
    base.reset()
    recorder?.note(Act(.resetReclaimer), Answer())
  }

  /// The answer has no number when the host refused.
  private func note(
    _ kind: Act.Kind, _ range: GuestRange, _ body: () throws(GuestMemoryError) -> UInt64
  ) throws(GuestMemoryError) -> UInt64 {
    do throws(GuestMemoryError) {
      let byteCount = try body()
      recorder?.note(Act(kind, range), Answer([byteCount]))
      return byteCount
    } catch {
      recorder?.note(Act(kind, range), Answer())
      throw error
    }
  }
}

/// A reclaimer that takes no page, and answers as another did when it was recorded.
public struct ReplayedReclaimer: PageReclaimer {
  private let outside: ReplayedOutside

  init(_ outside: ReplayedOutside) {
    self.outside = outside
  }

  public mutating func giveUp(_ range: GuestRange, of memory: GuestMemory) throws(GuestMemoryError) -> UInt64 {
    try ask(.giveUp, range)
  }

  public mutating func release(_ range: GuestRange, of memory: GuestMemory) throws(GuestMemoryError) -> UInt64 {
    try ask(.release, range)
  }

  public mutating func takeBack(_ range: GuestRange, of memory: GuestMemory) {
    _ = outside.ask(Act(.takeBack, range))
  }

  public mutating func reset() {
    _ = outside.ask(Act(.resetReclaimer))
  }

  private func ask(_ kind: Act.Kind, _ range: GuestRange) throws(GuestMemoryError) -> UInt64 {
    guard let byteCount = outside.ask(Act(kind, range))?.numbers.first else { throw .outside(range) }
    return byteCount
  }
}

extension Act {
  fileprivate init(_ kind: Kind, _ range: GuestRange) {
    self.init(kind, range.start.rawValue, range.byteCount)
  }
}
