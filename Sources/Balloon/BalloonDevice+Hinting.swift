import GuestRAM
import VirtioCore
import Virtqueue

/// Free page hinting (5.5.6.5), for a migration that need not copy free pages.
///
/// A hint says that a page was free when it was given; the guest may write to it at any time. So a hinted page may be
/// left uncopied only while whatever is written later is seen by dirty tracking, and it is never emptied. Take the hints
/// of a round, and clear those pages' dirty bits, before tracking is synchronised again: stop the round for that.
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
      readable.removeAll(keepingCapacity: true)
      writable.removeAll(keepingCapacity: true)
      try chain.collect(readable: &readable, writable: &writable)
      if !readable.isEmpty { hints.receive(try readCommand(memory)) }
      for index in writable.indices where hints.phase == .active {
        forEachPart(of: writable[index].range, memory) { (device, part) in device.hints.note(part) }
      }
      queue.complete(chain)
    }
  }

  /// The command ID in the readable buffers, however a driver split its four bytes; nil when there are fewer.
  private func readCommand(_ memory: GuestMemory) throws(VirtqueueError) -> UInt32? {
    var command: UInt32 = 0
    var count = 0
    for buffer in readable {
      for offset in 0..<min(buffer.byteCount, 4 - count) {
        guard let address = buffer.address.advanced(by: UInt64(offset)) else { throw .memory(.outside(buffer.range)) }
        command |= UInt32(try read(memory, at: address)) << (8 * UInt32(count))
        count += 1
      }
    }
    return count == 4 ? command : nil
  }

  private func read(_ memory: GuestMemory, at address: GuestAddress) throws(VirtqueueError) -> UInt8 {
    do throws(GuestMemoryError) { return try memory.read(UInt8.self, at: address) } catch { throw .memory(error) }
  }
}
