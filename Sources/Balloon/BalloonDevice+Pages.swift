import GuestRAM
import VirtioCore
import Virtqueue

/// Pages into the balloon and out of it (5.5.6).
extension BalloonDevice {
  /// Gives the pages of each request to the host before the request is answered.
  ///
  /// Later would be too late: a driver that does not have to ask may use the pages again before its deflate request is
  /// seen.
  ///
  /// - Returns: whether requests may be left, because these were work enough for one turn.
  mutating func inflate(_ queue: inout SplitVirtqueue, _ memory: GuestMemory) throws(VirtqueueError) -> Bool {
    try serve(&queue, memory) { (device, part) in
      device.counters.inflatedPages &+= part.byteCount / PageRuns.pageByteCount
      device.giveUp(part, memory)
    }
  }

  /// - Returns: whether requests may be left, because these were work enough for one turn.
  mutating func deflate(_ queue: inout SplitVirtqueue, _ memory: GuestMemory) throws(VirtqueueError) -> Bool {
    try serve(&queue, memory) { (device, part) in
      device.counters.deflatedPages &+= part.byteCount / PageRuns.pageByteCount
      device.reclaimer.takeBack(part, of: memory)
    }
  }

  /// The page frames after which a turn ends with the request that it is in: each may cost a call to the kernel.
  private static var framesPerTurn: UInt64 { 65_536 }

  private mutating func serve(
    _ queue: inout SplitVirtqueue, _ memory: GuestMemory, _ body: (inout Self, GuestRange) -> Void
  ) throws(VirtqueueError) -> Bool {
    var count: UInt64 = 0
    while count < Self.framesPerTurn {
      guard var chain = try queue.next() else { return false }
      count += try takeFrames(of: &chain, memory, body)
      queue.complete(chain)
    }
    return true
  }

  /// Calls `body` with each range of guest memory that the page frames of a chain make up, in as few as possible.
  ///
  /// - Returns: how many frames there were.
  private mutating func takeFrames(
    of chain: inout DescriptorChain, _ memory: GuestMemory, _ body: (inout Self, GuestRange) -> Void
  ) throws(VirtqueueError) -> UInt64 {
    let most = memory.byteCount / PageRuns.pageByteCount
    var left = most
    var isMore = true
    // Another request may have broken off: its pages are not this one's.
    runs.removeAll()
    while isMore {
      isMore = try runs.read(&chain, left: &left)
      ranges.removeAll(keepingCapacity: true)
      runs.drain(into: &ranges)
      for index in ranges.indices { forEachPart(of: ranges[index], memory, body) }
    }
    return most - left
  }

  /// Lists the device-writable buffers of a chain, of which each is a range of free pages.
  mutating func collectWritable(of chain: inout DescriptorChain) throws(VirtqueueError) {
    readable.removeAll(keepingCapacity: true)
    writable.removeAll(keepingCapacity: true)
    try chain.collect(readable: &readable, writable: &writable)
  }

  /// Calls `body` with the whole pages of a range that are guest memory, and counts the rest.
  mutating func forEachPart(
    of range: GuestRange, _ memory: GuestMemory, _ body: (inout Self, GuestRange) -> Void
  ) {
    parts.removeAll(keepingCapacity: true)
    counters.ignoredBytes &+= memory.appendPages(of: range, to: &parts)
    for index in parts.indices { body(&self, parts[index]) }
  }

  /// Only a driver that must ask keeps a page in the balloon for certain. Of any other, nothing is known once the
  /// request is answered.
  private mutating func giveUp(_ part: GuestRange, _ memory: GuestMemory) {
    guard !isReclaimInhibited else { return }
    do throws(GuestMemoryError) {
      let isKept = features.contains(.mustTellHost)
      let byteCount = isKept ? try reclaimer.giveUp(part, of: memory) : try reclaimer.release(part, of: memory)
      counters.reclaimedBytes &+= byteCount
    } catch {
      note(error)
    }
  }

  /// The guest did nothing wrong and need not know: the page stays, and the operator is told.
  mutating func note(_ failure: GuestMemoryError) {
    counters.failedDiscards &+= 1
    lastFailure = failure
  }
}
