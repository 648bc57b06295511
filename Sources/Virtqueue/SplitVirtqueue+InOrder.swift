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
  /// Writes the element of the next chain in turn.
  ///
  /// In order, one element may stand for a run of chains if all but the last were used completely. It names the last and
  /// lies in the slot of the first, so each chain overwrites the run's element until the run ends.
  /// - Parameter isComplete: whether the next chain may share the element; never without `VIRTIO_F_IN_ORDER`.
  @inlinable
  @inline(__always)
  mutating func give(_ head: UInt16, _ writtenByteCount: UInt32, isComplete: Bool) {
    // The id and the length at once; nobody looks at them before they are published.
    used.store(
      UInt64(writtenByteCount) &<< 32 | UInt64(head), at: RingLayout.usedOffset(slot: runStart & (size &- 1)))
    if tracker != nil { trackGiven(head) }
    giveIndex &+= 1
    if !isComplete { runStart = giveIndex }
  }

  /// Keeps a chain until its turn, or gives it and all that waited for it.
  @usableFromInline
  mutating func giveInTurn(_ completion: WaitingChains.Completion, position: UInt16) {
    let mask = size &- 1
    waiting.add(completion, slot: position & mask)
    while let next = waiting.take(giveIndex & mask) {
      give(next.head, next.writtenByteCount, isComplete: next.isComplete)
    }
  }
}
