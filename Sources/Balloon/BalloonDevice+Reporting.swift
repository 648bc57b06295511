import GuestRAM
import VirtioCore
import Virtqueue

/// Free page reporting (5.5.6.7).
extension BalloonDevice {
  /// Gives each reported range to the host before the report is answered; afterwards the guest may use it untold.
  mutating func receiveReports(_ queue: inout SplitVirtqueue, _ memory: GuestMemory) throws(VirtqueueError) {
    while var chain = try queue.next() {
      try collectWritable(of: &chain)
      if mayEmptyReportedPages {
        for index in writable.indices {
          forEachPart(of: writable[index].range, memory) { (device, part) in device.release(part, memory) }
        }
      }
      queue.complete(chain)
    }
  }

  private var mayEmptyReportedPages: Bool { !isReclaimInhibited && !keepsFreePages }

  /// A page given back, or left out of a migration, reads as zeros: a driver that counts on another value in its free
  /// pages must keep them.
  var keepsFreePages: Bool { features.contains(.pagePoison) && fields.poisonValue != 0 }

  private mutating func release(_ part: GuestRange, _ memory: GuestMemory) {
    do throws(GuestMemoryError) {
      counters.reportedBytes &+= try reclaimer.release(part, of: memory)
    } catch {
      note(error)
    }
  }
}
