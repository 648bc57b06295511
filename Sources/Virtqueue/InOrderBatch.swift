import GuestRAM

/// Chains given back but not yet published, when the driver wants them in the order it made them available (2.7.9).
///
/// One used entry may stand for a run of chains if all but the last were used completely. It names the last and lies
/// in the slot of the first, so each chain overwrites the run's entry until the run ends.
@usableFromInline
struct InOrderBatch {
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

  /// The used index of the run's first chain, which is where its entry goes.
  @usableFromInline var start: UInt16
  /// What was given back ahead of its turn, by available index modulo Queue Size.
  var waiting: [Completion?]

  init(size: UInt16, start: UInt16) {
    self.start = start
    waiting = [Completion?](repeating: nil, count: Int(size))
  }

  /// Takes what was given back for a slot, or nil when that chain is still out.
  mutating func take(_ slot: UInt16) -> Completion? {
    defer { waiting[Int(slot)] = nil }
    return waiting[Int(slot)]
  }
}

extension SplitVirtqueue {
  /// What is published ends the run.
  @usableFromInline
  mutating func beginBatch() {
    batch?.start = giveIndex
  }

  @usableFromInline
  mutating func completeInOrder(_ position: UInt16, _ completion: InOrderBatch.Completion) {
    let mask = size &- 1
    batch?.waiting[Int(position & mask)] = completion
    while giveIndex != takeIndex, let done = batch?.take(giveIndex & mask) {
      let offset = RingLayout.usedOffset(slot: (batch?.start ?? giveIndex) & mask)
      used.store(UInt32(done.head), at: offset)
      used.store(done.writtenByteCount, at: offset + 4)
      giveIndex &+= 1
      if !done.isComplete { batch?.start = giveIndex }
    }
  }
}
