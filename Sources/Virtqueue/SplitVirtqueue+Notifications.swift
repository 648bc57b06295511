package import GuestRAM

/// When to interrupt the driver and when to be kicked by it (2.7.7, 2.7.10).
///
/// Both decisions write one shared value and then read another. Without a full barrier in between, both sides may read
/// the old value and wait for each other for ever.
extension SplitVirtqueue {
  /// How many chains were published since `needsNotification` was last asked; nil before it was asked at all.
  public var unnotifiedCount: UInt16? { notifiedUsed.map { publishedUsed &- $0 } }

  /// Whether the driver wants to be told of what was published since this was last asked.
  ///
  /// The first time after a start it asks about all that was ever published, and `used_event` does not count: nobody
  /// knows what an earlier device signalled.
  public mutating func needsNotification() -> Bool {
    let last = notifiedUsed
    guard publishedUsed != last else { return false }
    notifiedUsed = publishedUsed
    GuestMemory.fullBarrier()
    let wish = available.load(UInt16.self, at: wishOffset)
    let isDue = isDue(wish, since: last)
    lastDecision = NotificationDecision(used: publishedUsed, wish: wish, isFirst: last == nil, isDue: isDue)
    return isDue
  }

  private func isDue(_ wish: UInt16, since last: UInt16?) -> Bool {
    guard features.eventIndex else { return wish & Self.noInterrupt == 0 }
    guard let last else { return true }
    // A batch can jump over the event index, so equality would miss it.
    return publishedUsed &- wish &- 1 < publishedUsed &- last
  }

  /// Where in the available ring the driver says when it wants to be told: `flags`, or `used_event`.
  private var wishOffset: Int {
    features.eventIndex ? RingLayout.usedEventOffset(size: size) : RingLayout.flagsOffset
  }

  /// Decides anew what another queue has decided, for the same wish of the driver: asks as if nobody had asked before if
  /// that one was its first.
  ///
  /// Throws what `memory` does when the wish cannot be put where the driver had it.
  package mutating func decideAgain(
    _ decision: NotificationDecision, _ configuration: QueueConfiguration, _ memory: GuestMemory
  ) throws(GuestMemoryError) -> Bool {
    try memory.write(decision.wish, at: GuestAddress(configuration.availableRing.rawValue &+ UInt64(wishOffset)))
    if decision.isFirst { notifiedUsed = nil }
    return needsNotification()
  }

  /// Asks the driver not to kick while the device looks at the ring anyway.
  ///
  /// With event indices nothing needs to be written: the event index is behind, so no kick comes.
  public mutating func suppressKicks() {
    guard !features.eventIndex, !areKicksSuppressed else { return }
    used.window.store(Self.noNotify, at: RingLayout.flagsOffset)
    areKicksSuppressed = true
  }

  /// Asks for a kick with the next buffer that becomes available.
  ///
  /// - Returns: whether buffers came in the meantime, for which no kick may come: serve them and ask again.
  public mutating func requestKicks() throws(VirtqueueError) -> Bool {
    if features.eventIndex {
      used.window.store(seenAvailable, at: RingLayout.availableEventOffset(size: size))
    } else if areKicksSuppressed {
      used.window.store(UInt16(0), at: RingLayout.flagsOffset)
      areKicksSuppressed = false
    }
    GuestMemory.fullBarrier()
    return try look()
  }

  /// Whether there are buffers to take, without asking for a kick with those that come later.
  public mutating func seesBuffers() throws(VirtqueueError) -> Bool {
    nextAvailable != seenAvailable ? true : try look()
  }

  /// Whether the used ring says that kicks are unwanted, as a device leaves it that is stopped while it serves.
  static func suppressesKicks(_ used: borrowing MemoryWindow) -> Bool {
    used.load(UInt16.self, at: RingLayout.flagsOffset) & noNotify != 0
  }

  /// `VIRTQ_AVAIL_F_NO_INTERRUPT`
  private static var noInterrupt: UInt16 { 1 }
  /// `VIRTQ_USED_F_NO_NOTIFY`
  private static var noNotify: UInt16 { 1 }
}

/// Whether the driver of a queue was to be told of used buffers, and what that was decided by.
public struct NotificationDecision: Equatable, Sendable {
  /// The used index that was published.
  public var used: UInt16
  /// What the driver had written at that moment: `used_event`, or the available ring's `flags` (2.7.7).
  public var wish: UInt16
  /// Whether nothing was known of what the driver was told before.
  public var isFirst: Bool
  public var isDue: Bool

  public init(used: UInt16 = 0, wish: UInt16 = 0, isFirst: Bool = false, isDue: Bool = false) {
    self.used = used
    self.wish = wish
    self.isFirst = isFirst
    self.isDue = isDue
  }
}
