import GuestRAM
import LinuxIO
import VirtioCore
import Virtqueue

/// What the driver sends (5.1.6.2).
extension NetDevice {
  /// How many batches of segments are made in one call at most, and those of one more batch of packets: a packet may become
  /// many times as long when it is cut.
  private static var mostExtraBatches: Int { 16 }

  /// How many bytes of a packet lie on lines of the cache that each would be waited for; those of longer ones are fetched as
  /// they are copied.
  private static var shortPacketByteCount: UInt32 { 128 }

  /// Carries packets from a transmit queue to its port, until there are none or the port has no room.
  mutating func transmit(_ lane: Lane, _ queues: inout QueueSet) throws(VirtqueueError) {
    let index = lane.transmitQueue
    var extraBatches = 0
    while true {
      extraBatches += send(lane)
      if lane.isSent, extraBatches > Self.mostExtraBatches { return queues.serveLater(index) }
      // The driver's next packets wait in its own memory.
      guard lane.isSent, try collect(&lane.outgoing, &queues[index]) else { return }
      names.look(at: lane.outgoing)
      noteFlows(lane)
    }
  }

  /// Copies packets out of a queue, as many as there is room for, and gives their buffers back.
  /// - Returns: whether there were any.
  private mutating func collect(
    _ batch: inout PacketBatch, _ queue: inout SplitVirtqueue
  ) throws(VirtqueueError) -> Bool {
    var hasTaken = false
    try queue.warm(PacketBatch.largestCount, byteCount: Self.shortPacketByteCount)
    while batch.hasRoom(), var chain = try queue.next() {
      hasTaken = true
      try take(&chain, into: &batch)
      queue.complete(chain)
    }
    return hasTaken
  }

  /// Copies one packet, its header in the form that ports share.
  private mutating func take(
    _ chain: inout DescriptorChain, into batch: inout PacketBatch
  ) throws(VirtqueueError) {
    let start = batch.nextPacket
    let room = start..<start + NetHeader.byteCount + PacketBatch.largestFrameByteCount
    let byteCount =
      if settings.headerByteCount == NetHeader.byteCount {
        try chain.read(into: &batch.bytes, part: room) - NetHeader.byteCount
      } else {
        try takeOtherHeader(&chain, into: &batch, room)
      }
    guard byteCount >= PacketBatch.smallestFrameByteCount else { return counters.drop(.tooShort) }
    if byteCount == PacketBatch.largestFrameByteCount, try chain.hasReadableBytes() { return counters.drop(.tooLong) }
    batch.commit(byteCount)
    counters.transmittedPackets &+= 1
    counters.transmittedBytes &+= UInt64(byteCount)
  }

  /// A header of 10 bytes, or of more than 12, of which ports have no use for the rest.
  private func takeOtherHeader(
    _ chain: inout DescriptorChain, into batch: inout PacketBatch, _ room: Range<Int>
  ) throws(VirtqueueError) -> Int {
    let common = min(settings.headerByteCount, NetHeader.byteCount)
    let frame = room.lowerBound + NetHeader.byteCount
    guard try chain.read(into: &batch.bytes, part: room.lowerBound..<room.lowerBound + common) == common else {
      return 0
    }
    batch.bytes.setLittleEndian(0 as UInt16, at: frame - 2)
    let rest = settings.headerByteCount - common
    // Where the frame will be, which then covers it.
    guard try chain.read(into: &batch.bytes, part: frame..<frame + rest) == rest else { return 0 }
    return try chain.read(into: &batch.bytes, part: frame..<room.upperBound)
  }

  /// Hands the port what there is for it, with whatever the port does not do done.
  /// - Returns: how many batches more than one it has become.
  private mutating func send(_ lane: Lane) -> Int {
    lane.isStalled = false
    guard !lane.isSent else { return 0 }
    guard let port = lane.port, fields.isLinkUp else {
      counters.drop(.linkDown, lane.dropOutgoing())
      return 0
    }
    let taken = port.takenOffloads
    var extraBatches = -1
    repeat {
      extraBatches += 1
      lane.outgoingFallback.adapt(&lane.outgoing, from: settings.leftOffloads, to: taken)
      port.send(&lane.outgoing)
    } while lane.outgoing.isEmpty && lane.outgoingFallback.hasMore
    lane.isStalled = !lane.isSent
    if !lane.outgoingFallback.drops.isEmpty { counters.drop(lane.outgoingFallback.takeDrops()) }
    noteFailure(of: lane, port)
    return extraBatches
  }
}
