import GuestRAM

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
    guard features.eventIndex else {
      return available.load(UInt16.self, at: RingLayout.flagsOffset) & Self.noInterrupt == 0
    }
    guard let last else { return true }
    let event = available.load(UInt16.self, at: RingLayout.usedEventOffset(size: size))
    // A batch can jump over the event index, so equality would miss it.
    return publishedUsed &- event &- 1 < publishedUsed &- last
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
