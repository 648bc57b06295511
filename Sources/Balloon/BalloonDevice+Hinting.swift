import GuestRAM
import VirtioCore
import Virtqueue

/// Free page hinting (5.5.6.5), for a migration that need not copy free pages.
///
/// A hint says that a page was free when it was given; the guest may write to it at any time. So a hinted page may be
/// left uncopied only while whatever is written later is seen by dirty tracking, and it is never emptied. Take the hints
/// of a round, and clear those pages' dirty bits, before tracking is synchronised again: stop the round for that.
///
/// A page left uncopied reads as zeros, so a driver that fills its free pages with another value (5.5.6.6) gives no hints.
extension BalloonDevice {
  /// Asks the driver for its free pages. Hints of earlier rounds, taken or not, count no more.
  ///
  /// - Returns: the command ID of the round.
  @discardableResult
  public mutating func startHinting() throws(BalloonError) -> UInt32 {
    guard features.contains(.freePageHint) else { throw .hintingNotNegotiated }
    return hints.start()
  }

  /// Ends the round. The driver keeps the pages it hinted at, ready for another one; hints not taken are dropped.
  public mutating func stopHinting() {
    hints.end(with: HintSession.stop)
  }

  /// Ends hinting: the driver uses all its pages again. Also to be called where a guest arrived in the middle of it.
  public mutating func finishHinting() {
    hints.end(with: HintSession.done)
  }

  public var hintPhase: HintPhase { hints.phase }

  /// Takes the hints of the current round that have come since this was last called.
  public mutating func takeHints() -> FreePageHints {
    hints.take()
  }

  mutating func receiveHints(_ queue: inout SplitVirtqueue, _ memory: GuestMemory) throws(VirtqueueError) {
    while var chain = try queue.next() {
      if let command = try chain.read(UInt32.self) { hints.receive(command) }
      try collectWritable(of: &chain)
      for index in writable.indices where hints.phase == .active && !keepsFreePages {
        forEachPart(of: writable[index].range, memory) { (device, part) in device.hints.note(part) }
      }
      queue.complete(chain)
    }
  }
}
