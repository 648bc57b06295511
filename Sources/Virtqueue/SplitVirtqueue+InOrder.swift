public import GuestRAM

/// Chains given back ahead of their turn, when the driver wants them in the order it made them available (2.7.9).
@usableFromInline
struct WaitingChains {
  @usableFromInline
  struct Completion {
    @usableFromInline let head: UInt16
    @usableFromInline let writtenByteCount: UInt32
    @usableFromInline let isComplete: Bool

    @inlinable
    init(head: UInt16, writtenByteCount: UInt32, isComplete: Bool) {
      self.head = head
      self.writtenByteCount = writtenByteCount
      self.isComplete = isComplete
    }
  }

  /// By available index modulo Queue Size.
  private var completions: [Completion?]
  @usableFromInline private(set) var count = 0

  init(size: UInt16) {
    completions = [Completion?](repeating: nil, count: Int(size))
  }

  mutating func add(_ completion: Completion, slot: UInt16) {
    completions[Int(slot)] = completion
    count += 1
  }

  /// Takes what was given back for a slot, or nil when that chain is still out.
  mutating func take(_ slot: UInt16) -> Completion? {
    guard count > 0, let completion = completions[Int(slot)] else { return nil }
    completions[Int(slot)] = nil
    count -= 1
    return completion
  }
}

extension SplitVirtqueue {
  /// Writes the element of a chain, whose turn is when it comes.
  @inlinable
  @inline(__always)
  mutating func give(_ head: UInt16, _ writtenByteCount: UInt32) {
    used.store(UInt32(head), writtenByteCount, at: giveIndex)
    giveIndex &+= 1
  }

  /// Gives a chain back in turn where turns count, and notes it where that is asked for.
  @inlinable
  @inline(__always)
  mutating func giveWithCare(_ head: UInt16, _ writtenByteCount: UInt32, isComplete: Bool, position: UInt16) {
    if features.inOrder {
      giveInOrder(head, writtenByteCount, isComplete: isComplete, position: position)
    } else {
      give(head, writtenByteCount)
      if tracker != nil { trackGiven(head) }
    }
  }

  /// Gives a chain back if it is the next in turn, with all that waited for it, or else keeps it until its turn.
  /// - Parameter isComplete: whether it was used completely, and so may share its element with those after it.
  @inlinable
  @inline(__always)
  mutating func giveInOrder(_ head: UInt16, _ writtenByteCount: UInt32, isComplete: Bool, position: UInt16) {
    if position == nextUsed, waiting.count == 0 {
      extendRun(head, writtenByteCount, isComplete: isComplete)
    } else {
      giveInTurn(head, writtenByteCount, isComplete: isComplete, position: position)
    }
  }

  @usableFromInline
  mutating func giveInTurn(_ head: UInt16, _ writtenByteCount: UInt32, isComplete: Bool, position: UInt16) {
    let mask = size &- 1
    let completion = WaitingChains.Completion(head: head, writtenByteCount: writtenByteCount, isComplete: isComplete)
    waiting.add(completion, slot: position & mask)
    while let next = waiting.take(giveIndex & mask) {
      extendRun(next.head, next.writtenByteCount, isComplete: next.isComplete)
    }
  }

  /// Writes the element of the next chain in turn.
  ///
  /// One element may stand for a run of chains if all but the last were used completely. It names the last and lies in
  /// the slot of the first, so each chain overwrites the run's element until the run ends.
  @inlinable
  @inline(__always)
  mutating func extendRun(_ head: UInt16, _ writtenByteCount: UInt32, isComplete: Bool) {
    used.store(UInt32(head), writtenByteCount, at: runStart)
    if tracker != nil { trackGiven(head) }
    giveIndex &+= 1
    if !isComplete { runStart = giveIndex }
  }
}
