public import LinuxIO

/// Returns every packet to the card that sent it.
public final class LoopbackPort: PacketPort {
  public let name = "loopback"
  public private(set) var counters = PortCounters()
  private let swapsAddresses: Bool
  private var ring: PacketRing
  private let sign: Eventfd

  /// - Parameters:
  ///   - swapsAddresses: whether a packet comes back to the address that sent it, from the one it was sent to.
  ///   - packetCount: how many packets wait for the card at most; what is beyond that is dropped.
  ///   - byteCount: how many bytes they take at most; at least one of the largest fits.
  public init(swapsAddresses: Bool = false, packetCount: Int = 1024, byteCount: Int = 1 << 20) throws(LinuxError) {
    self.swapsAddresses = swapsAddresses
    ring = PacketRing(packetCount: packetCount, byteCount: byteCount)
    sign = try Eventfd()
  }

  public var takenOffloads: Offloads { .all }

  /// Nothing happens: packets come back as they were sent.
  public func setGivenOffloads(_ offloads: Offloads) {}

  public var descriptor: Int32? { sign.descriptor.rawValue }

  public func send(_ batch: inout PacketBatch) {
    let wasEmpty = ring.isEmpty
    keep(&batch, in: &ring, &counters)
    batch.removeAll()
    if wasEmpty, !ring.isEmpty { sign.signal() }
  }

  private func keep(_ batch: inout PacketBatch, in ring: inout PacketRing, _ counters: inout PortCounters) {
    for index in 0..<batch.count {
      let frame = batch.frame(index)
      guard frame.count >= PacketBatch.smallestFrameByteCount else {
        counters.drop(.tooShort)
        continue
      }
      if swapsAddresses { batch.swapAddresses(at: frame.lowerBound) }
      if ring.append(batch.packet(index), of: batch.bytes) {
        counters.sent &+= 1
      } else {
        counters.drop(.queueFull)
      }
    }
  }

  public func receive(into batch: inout PacketBatch) {
    counters.received &+= UInt64(ring.move(into: &batch))
  }

  public var failure: PortError? { nil }
}

extension PacketBatch {
  fileprivate mutating func swapAddresses(at start: Int) {
    for place in start..<start + 6 { bytes.swapAt(place, place + 6) }
  }
}
