public import GuestRAM

/// Who takes the pages that a guest gives up: the balloon says which and when, this does it.
///
/// All ranges are whole 4 KiB pages of guest memory. What is thrown is kept for the operator to read; the guest, whose
/// request was sound, never hears of it.
public protocol PageReclaimer: SendableMetatype {
  /// The guest put pages into the balloon and asks before it uses them again.
  ///
  /// - Returns: how many bytes went back to the host now. It may be fewer than the range has, or more when the range
  ///   completes a large host page.
  mutating func giveUp(_ range: GuestRange, of memory: GuestMemory) throws(GuestMemoryError) -> UInt64

  /// The guest does without the pages' contents now, but may use the pages as soon as the request is answered.
  ///
  /// - Returns: how many bytes went back to the host.
  mutating func release(_ range: GuestRange, of memory: GuestMemory) throws(GuestMemoryError) -> UInt64

  /// The guest is about to use pages of the balloon again.
  mutating func takeBack(_ range: GuestRange, of memory: GuestMemory)

  /// The guest starts anew: no page is in the balloon.
  mutating func reset()
}
