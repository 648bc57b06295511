import LinuxIO

/// The packets that wait for one card of a switch. Any thread adds, and the card's takes.
final class SwitchQueue: Sendable {
  private struct State: ~Copyable {
    var ring: PacketRing
    var counters = PortCounters()
    /// The card has seen the queue empty, and sleeps for all that is known.
    var isAwaited = true
    var isClosed = false
  }

  private let state: Monitor<State>
  private let sign: Eventfd

  init(packetCount: Int, byteCount: Int) throws(LinuxError) {
    sign = try Eventfd()
    state = Monitor(State(ring: PacketRing(packetCount: packetCount, byteCount: byteCount)))
  }

  /// Becomes readable anew each time that there is something in the queue again.
  var descriptor: Int32 { sign.descriptor.rawValue }

  var isClosed: Bool { state.withLock { $0.isClosed } }

  /// What has gone through and what has not.
  var counters: PortCounters { state.withLock { $0.counters } }

  /// Adds copies of those of a batch's packets that the port carries, as they look there.
  /// - Parameters:
  ///   - range: which of the packets.
  ///   - verdicts: what the switch has found for all of them.
  ///   - source: how they came.
  ///   - target: how they go.
  func append(
    _ range: Range<Int>, of batch: borrowing PacketBatch, _ verdicts: Verdicts, from source: PortVLANs,
    to target: PortVLANs
  ) {
    let isNews = state.withLock { state in
      guard !state.isClosed else { return false }
      for index in range where target.carries(verdicts[index].vlan) {
        let verdict = verdicts[index]
        let change = source.change(ofTag: verdict.tag, of: verdict.vlan, to: target)
        if batch.frame(index).count + change.growth > PacketBatch.largestFrameByteCount {
          state.counters.drop(.tooLong)
        } else if !state.ring.append(batch.packet(index), of: batch.bytes, change) {
          state.counters.drop(.queueFull)
        }
      }
      guard state.isAwaited, !state.ring.isEmpty else { return false }
      state.isAwaited = false
      return true
    }
    if isNews { sign.signal() }
  }

  /// Moves packets to a batch until there are none, or it has no room for the next.
  func move(into batch: inout PacketBatch) {
    state.withLock { state in
      while state.ring.moveFirst(into: &batch) { state.counters.received &+= 1 }
      state.isAwaited = state.ring.isEmpty
    }
  }

  func drop(_ reason: DropReason, _ count: Int) {
    state.withLock { $0.counters.drop(reason, UInt64(count)) }
  }

  /// Takes nothing more, and wakes the card to find out.
  /// - Parameter counters: what the switch has counted for the port.
  func close(_ counters: PortCounters) {
    state.withLock { state in
      state.isClosed = true
      if !state.ring.isEmpty { state.counters.drop(.portFailed, UInt64(state.ring.count)) }
      state.counters.add(counters)
      state.ring.removeAll()
    }
    sign.signal()
  }
}

extension PortCounters {
  mutating func add(_ other: PortCounters) {
    sent &+= other.sent
    received &+= other.received
    for (reason, count) in other.drops { drop(reason, count) }
  }
}
