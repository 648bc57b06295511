public import GuestRAM

/// Bytes in and out of a chain, wherever the driver split them.
extension DescriptorChain {
  /// Copies the next device-readable bytes into a part of `bytes`, or fewer when the chain has fewer.
  ///
  /// - Returns: how many bytes were copied, from the part's beginning.
  @inlinable
  @inline(__always)
  public mutating func read(into bytes: inout [UInt8], part: Range<Int>) throws(VirtqueueError) -> Int {
    var place = part.lowerBound
    while place < part.upperBound, try reachReadable() {
      let count = min(part.upperBound &- place, Int(current.byteCount))
      do throws(GuestMemoryError) {
        try table.read(into: &bytes, part: place..<place &+ count, at: current.address)
      } catch {
        throw .memory(error)
      }
      current.skip(UInt32(truncatingIfNeeded: count))
      place &+= count
    }
    return place &- part.lowerBound
  }

  /// Copies a part of `bytes` to the next device-writable bytes, or less of it when the chain has less room.
  ///
  /// - Returns: how many bytes were copied, from the part's beginning.
  @inlinable
  @inline(__always)
  public mutating func write(_ bytes: [UInt8], part: Range<Int>) throws(VirtqueueError) -> Int {
    var place = part.lowerBound
    while place < part.upperBound, try reachWritable() {
      let count = min(part.upperBound &- place, Int(current.byteCount))
      do throws(GuestMemoryError) {
        try table.write(bytes, part: place..<place &+ count, at: current.address)
      } catch {
        throw .memory(error)
      }
      current.skip(UInt32(truncatingIfNeeded: count))
      place &+= count
    }
    didWrite(UInt32(truncatingIfNeeded: place &- part.lowerBound))
    return place &- part.lowerBound
  }

  /// Writes twelve bytes and a part of `bytes` behind them to the next buffer, if it has room for both.
  ///
  /// - Returns: false, with nothing written, when it has not.
  @inlinable
  @inline(__always)
  public mutating func write(
    _ head: (UInt64, UInt32), _ bytes: [UInt8], part: Range<Int>
  ) throws(VirtqueueError) -> Bool {
    let byteCount = 12 &+ part.count
    guard try reachWritable(), Int(current.byteCount) >= byteCount,
      table.write(head, bytes, part: part, at: current.address)
    else { return false }
    current.skip(UInt32(truncatingIfNeeded: byteCount))
    didWrite(UInt32(truncatingIfNeeded: byteCount))
    return true
  }

  /// Whether device-readable bytes are left.
  @inlinable
  public mutating func hasReadableBytes() throws(VirtqueueError) -> Bool {
    try reachReadable()
  }

  /// Where the next byte that is written will lie; nil when no device-writable byte is left.
  public mutating func writePosition() throws(VirtqueueError) -> GuestAddress? {
    try reachWritable() ? current.address : nil
  }
}
