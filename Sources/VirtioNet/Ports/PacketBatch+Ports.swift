extension PacketBatch {
  /// Adds the frame that a port has received at `nextPacket`, unless it is none.
  /// - Returns: whether it was one.
  @discardableResult
  mutating func accept(_ byteCount: Int, _ counters: inout PortCounters) -> Bool {
    guard byteCount >= Self.smallestFrameByteCount else {
      counters.drop(.tooShort)
      return false
    }
    commit(byteCount)
    counters.received &+= 1
    return true
  }
}
