import GuestRAM
import VirtioCore
import Virtqueue

/// What the driver gets (5.1.6.4).
extension NetDevice {
  /// What became of a packet.
  private enum Delivery {
    case done
    /// The driver has to make more buffers available first.
    case noBuffers
    case dropped(DropReason)
    /// Not even all buffers of the ring together have room for it, which took long to find out.
    case hopeless
  }

  /// Carries packets from all ports to the receive queues, until there are none or the driver lacks buffers.
  mutating func receive(_ queues: inout QueueSet) throws(VirtqueueError) {
    if settings.showsPairsByQueues { countPairs(queues) }
    // Also when a broken ring ends it.
    defer { keepsPackets = lanes.contains { !$0.isDelivered } }
    for lane in lanes {
      if !fields.isLinkUp { counters.drop(.linkDown, lane.dropIncoming()) }
      guard try deliverAll(lane, &queues), !lane.isDry else { continue }
      fetch(lane)
      // A batch at a time, so that the driver has something to do while the next is carried.
      if try deliverAll(lane, &queues), !lane.isDry, let queue = runningQueue(queues) { queues.serveNext(queue) }
    }
  }

  /// Some receive queue, with which all lanes are served.
  private func runningQueue(_ queues: borrowing QueueSet) -> Int? {
    lanes.first { queues.isRunning($0.receiveQueue) }?.receiveQueue
  }

  /// The queue that a packet goes to: where the choice is the device's, another while its own is being reset (5.1.6.5.6.2).
  private func runningQueue(for placement: Placement, _ queues: borrowing QueueSet) -> Int? {
    if queues.isRunning(placement.queue) { return placement.queue }
    guard !steering.isChosenByDriver else { return nil }
    return stride(from: 0, to: 2 * settings.pairCount, by: 2).first { queues.isRunning($0) }
  }

  private mutating func countPairs(_ queues: borrowing QueueSet) {
    settings.pairCount = max(1, lanes.count { queues.isRunning($0.receiveQueue) })
  }

  /// Asks the port for packets.
  private mutating func fetch(_ lane: Lane) {
    // The first lane asks a port that all share, whose packets so stay in order.
    guard let port = lane.port, lane.pair < ports.count else {
      lane.isDry = true
      return
    }
    if !lane.incomingFallback.hasMore {
      let count = lane.incoming.count
      port.receive(into: &lane.incoming)
      lane.isDry = lane.incoming.count == count
      noteFailure(of: lane, port)
      if !fields.isLinkUp { counters.drop(.linkDown, lane.dropIncoming()) }
    }
    adaptIncoming(lane)
  }

  /// How many batches a port may have kept for a driver who was elsewhere; more is nothing that has waited.
  private static var mostEarlierBatches: Int { 64 }

  /// Drops what the ports have from before the driver came here. Of what went to everybody it has had a copy where it was,
  /// and would get it again.
  mutating func dropEarlier() {
    guard hasArrived else { return }
    hasArrived = false
    for lane in lanes {
      guard let port = lane.port, lane.pair < ports.count else { continue }
      for _ in 0..<Self.mostEarlierBatches {
        port.receive(into: &lane.incoming)
        let count = lane.dropIncoming()
        guard count > 0 else { break }
        counters.drop(.noReceiver, count)
      }
    }
  }

  /// Makes what a lane has fetched what the driver can take, be it for another time since the driver takes less undone now.
  mutating func adaptIncoming(_ lane: Lane) {
    lane.incomingFallback.adapt(&lane.incoming, from: .all, to: settings.takenOffloads)
    // There is more to be had than the port knows of.
    if lane.incomingFallback.hasMore { lane.isDry = false }
    if !lane.incomingFallback.drops.isEmpty { counters.drop(lane.incomingFallback.takeDrops()) }
  }

  /// Gives the driver what was fetched; false when more cannot be taken from the port yet.
  private mutating func deliverAll(_ lane: Lane, _ queues: inout QueueSet) throws(VirtqueueError) -> Bool {
    if hasToClassify { return try deliverEach(lane, &queues) }
    let placement = commonPlacement(lane)
    let memory = queues.memory
    while !lane.incoming.isEmpty {
      // Queues are only late.
      guard let queue = runningQueue(for: placement, queues) else { return false }
      switch try deliver(&lane.incoming, 0, lane.incoming.count, placement, &queues[queue], memory) {
      case .noBuffers: return false
      case .hopeless: return endTurn(queue, &queues)
      case .done, .dropped: break
      }
    }
    return true
  }

  /// Gives the driver packets that have to be looked at one by one, since each has its own queue.
  ///
  /// No queue keeps another from its packets. Those of a queue without buffers stay where they are and are passed by the
  /// others, until they would be in the way of what follows; then they are dropped. So a queue has as much time as the
  /// others need for a batch, and one that nobody serves costs them nothing. A port whose packets all go to one queue
  /// keeps them instead, for as long as that queue needs.
  private mutating func deliverEach(_ lane: Lane, _ queues: inout QueueSet) throws(VirtqueueError) -> Bool {
    let memory = queues.memory
    var emptyQueues: [Int] = []
    var index = 0
    while index < lane.incoming.count {
      let placement = placement(lane, index)
      guard let queue = runningQueue(for: placement, queues) else {
        // Queues are only late, unless the driver has asked for one that it then stopped (5.1.6.5.7.3).
        guard steering.isChosenByDriver else { return false }
        counters.drop(.noBuffers)
        lane.incoming.remove(index)
        continue
      }
      // Behind one that waits: a queue's packets stay in order.
      if emptyQueues.contains(queue) {
        index += 1
        continue
      }
      switch try deliver(&lane.incoming, index, 1, placement, &queues[queue], memory) {
      case .noBuffers:
        guard isSpread else { return false }
        emptyQueues.append(queue)
      case .hopeless: return endTurn(queue, &queues)
      case .done, .dropped: break
      }
    }
    if lane.incomingFallback.hasMore || !lane.incoming.hasRoom() {
      counters.drop(.noBuffers, lane.incoming.count)
      lane.incoming.removeAll()
    }
    return true
  }

  /// A driver with buffers that are of no use does not keep the thread.
  private func endTurn(_ queue: Int, _ queues: inout QueueSet) -> Bool {
    queues.serveLater(queue)
    return false
  }

  /// Gives the driver packets of a batch from one on, until it lacks buffers for the next or one was hopeless.
  private mutating func deliver(
    _ batch: inout PacketBatch, _ index: Int, _ count: Int, _ placement: Placement, _ queue: inout SplitVirtqueue,
    _ memory: GuestMemory
  ) throws(VirtqueueError) -> Delivery {
    // Only the header is read before it is written.
    try queue.warm(count, byteCount: 1)
    for _ in 0..<count {
      let frame = batch.frame(index)
      switch try deliver(batch, frame, placement, &queue, memory) {
      case .done:
        counters.receivedPackets &+= 1
        counters.receivedBytes &+= UInt64(frame.count)
      case .dropped(let reason): counters.drop(reason)
      case .noBuffers: return .noBuffers
      case .hopeless:
        counters.drop(.bufferTooSmall)
        batch.remove(index)
        return .hopeless
      }
      batch.remove(index)
    }
    return .done
  }

  /// Delivers a packet in one piece, which nearly all are.
  @inline(__always)
  private func deliver(
    _ batch: borrowing PacketBatch, _ frame: Range<Int>, _ placement: Placement, _ queue: inout SplitVirtqueue,
    _ memory: GuestMemory
  ) throws(VirtqueueError) -> Delivery {
    guard frame.count >= PacketBatch.smallestFrameByteCount else { return .dropped(.tooShort) }
    guard filter.acceptsAll || filter.accepts(batch.bytes, at: frame.lowerBound, own: fields.address) else {
      return .dropped(.filtered)
    }
    // What is to be cut is longer, and its segments are not (5.1.4.1).
    guard frame.count <= settings.largestFrameByteCount || batch.bytes[frame.lowerBound - 11] != 0 else {
      return .dropped(.tooLong)
    }
    guard settings.headerByteCount == NetHeader.byteCount, var chain = try queue.next() else {
      return try deliverSlowly(batch, frame, placement, &queue, memory)
    }
    let (low, high) = batch.headerWords(frame)
    let bufferCount: UInt32 = 1 << 16
    guard try chain.write((low, high | bufferCount), batch.bytes, part: frame) else {
      queue.putBack(chain)
      return try deliverSlowly(batch, frame, placement, &queue, memory)
    }
    queue.complete(chain)
    return .done
  }

  /// Delivers a packet with another header than ports have, or over several buffers.
  private func deliverSlowly(
    _ batch: borrowing PacketBatch, _ frame: Range<Int>, _ placement: Placement, _ queue: inout SplitVirtqueue,
    _ memory: GuestMemory
  ) throws(VirtqueueError) -> Delivery {
    let mark = queue.mark
    var spread = Spread()
    guard var chain = try queue.next() else { return .noBuffers }
    guard try writeHeader(of: batch, frame, placement, &chain, &spread) else {
      queue.putBack(chain)
      return .dropped(.bufferTooSmall)
    }
    var place = frame.lowerBound
    place += try chain.write(batch.bytes, part: place..<frame.upperBound)
    guard place == frame.upperBound || settings.isMergeable else {
      queue.putBack(chain)
      return .dropped(.bufferTooSmall)
    }
    queue.complete(chain)
    while place < frame.upperBound {
      guard spread.bufferCount < queue.size, var next = try queue.next() else {
        let isHopeless = spread.bufferCount >= queue.size
        queue.rewind(to: mark)
        return isHopeless ? .hopeless : .noBuffers
      }
      place += try next.write(batch.bytes, part: place..<frame.upperBound)
      spread.bufferCount += 1
      queue.complete(next)
    }
    if spread.bufferCount > 1 { try spread.write(to: memory) }
    return .done
  }

  /// Where a packet's `num_buffers` lies, to be written once it is known.
  private struct Spread {
    var bufferCount: UInt16 = 1
    var low: GuestAddress?
    var high: GuestAddress?

    func write(to memory: GuestMemory) throws(VirtqueueError) {
      guard let low, let high else { return }
      do throws(GuestMemoryError) {
        try memory.write(UInt8(truncatingIfNeeded: bufferCount), at: low)
        try memory.write(UInt8(truncatingIfNeeded: bufferCount >> 8), at: high)
      } catch {
        throw .memory(error)
      }
    }
  }

  private func writeHeader(
    of batch: borrowing PacketBatch, _ frame: Range<Int>, _ placement: Placement, _ chain: inout DescriptorChain,
    _ spread: inout Spread
  ) throws(VirtqueueError) -> Bool {
    let (low, high) = batch.headerWords(frame)
    guard try chain.write(low), try chain.write(UInt16(truncatingIfNeeded: high)) else { return false }
    guard settings.headerByteCount > 10 else { return true }
    spread.low = try chain.writePosition()
    guard try chain.write(1 as UInt8) else { return false }
    spread.high = try chain.writePosition()
    guard try chain.write(0 as UInt8) else { return false }
    guard settings.reportsHash else { return true }
    return try chain.write(UInt64(placement.hash) | UInt64(placement.report.rawValue) << 32)
  }
}
