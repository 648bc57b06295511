public import GuestRAM

/// One buffer of a chain, as its descriptor says.
public struct Segment: Equatable, Sendable {
  public var address: GuestAddress
  /// The length in bytes; may be 0.
  public var byteCount: UInt32
  /// Whether the device may write the buffer, or may read it.
  public var isDeviceWritable: Bool

  @inlinable
  @inline(__always)
  init(address: GuestAddress, byteCount: UInt32, isDeviceWritable: Bool) {
    self.address = address
    self.byteCount = byteCount
    self.isDeviceWritable = isDeviceWritable
  }
}

/// A chain of buffers that the driver made available: device-readable ones, then device-writable ones.
///
/// It is walked as it is read, each descriptor fetched once. It cannot be copied, so it cannot be given back twice, and
/// it counts what is written. Walk it by `next`, or by `read`, `write` and `collect`; not by both.
public struct DescriptorChain: ~Copyable {
  /// The chain's first descriptor, which names it in the used ring.
  public let head: UInt16
  /// How many bytes have been written into the device-writable buffers.
  @inlinable
  public var writtenByteCount: UInt32 { written }

  @usableFromInline var written: UInt32 = 0

  /// The available index that the chain came with.
  @usableFromInline let position: UInt16
  @usableFromInline var table: PairTable
  @usableFromInline var walk: ChainWalk
  /// What `read` and `write` have left of the descriptor that they are in.
  @usableFromInline var current = Segment(address: GuestAddress(0), byteCount: 0, isDeviceWritable: false)

  @inlinable
  @inline(__always)
  init(head: UInt16, position: UInt16, table: consuming PairTable, allowsIndirect: Bool) {
    self.head = head
    self.position = position
    walk = ChainWalk(tableByteCount: table.byteCount, allowsIndirect: allowsIndirect)
    self.table = table
  }

  /// Notes bytes that went into the device-writable buffers without `write`: by `GuestMemory.fill`.
  @inlinable
  @inline(__always)
  public mutating func didWrite(_ byteCount: UInt32) {
    written &+= byteCount
  }

  /// Whether the whole chain was walked and every device-writable byte of it was written.
  @inlinable
  var isUsedCompletely: Bool {
    walk.isAtEnd && walk.writableByteCount == writtenByteCount
  }
}

extension DescriptorChain {
  /// Reads the next little-endian integer of the device-readable buffers, wherever the driver split them.
  ///
  /// - Returns: nil when fewer bytes than that are left; those are skipped.
  @inlinable
  @inline(__always)
  public mutating func read<T: GuestInteger>(_: T.Type) throws(VirtqueueError) -> T? {
    let byteCount = UInt32(MemoryLayout<T>.size)
    guard try reachReadable() else { return nil }
    guard current.byteCount >= byteCount else { return try readDivided(T.self) }
    let value: T
    do throws(GuestMemoryError) { value = try table.read(T.self, at: current.address) } catch { throw .memory(error) }
    current.skip(byteCount)
    return value
  }

  /// Writes a little-endian integer to the next bytes of the device-writable buffers, wherever the driver split them.
  ///
  /// - Returns: false when fewer bytes than that are left; the rest of the value is then not stored.
  @inlinable
  public mutating func write<T: GuestInteger>(_ value: T) throws(VirtqueueError) -> Bool {
    let byteCount = UInt32(MemoryLayout<T>.size)
    guard try reachWritable() else { return false }
    guard current.byteCount >= byteCount else { return try writeDivided(value) }
    do throws(GuestMemoryError) { try table.write(value, at: current.address) } catch { throw .memory(error) }
    current.skip(byteCount)
    didWrite(byteCount)
    return true
  }

  /// Appends all buffers that are left to two lists, at most 65535 in all: what `read` and `write` have left of one, and
  /// those behind it.
  public mutating func collect(
    readable: inout [GuestBuffer], writable: inout [GuestBuffer]
  ) throws(VirtqueueError) {
    var rest: Segment? = current.byteCount > 0 ? current : try next()
    current.byteCount = 0
    while let segment = rest {
      let buffer = GuestBuffer(address: segment.address, byteCount: Int(segment.byteCount))
      if segment.isDeviceWritable { writable.append(buffer) } else { readable.append(buffer) }
      rest = try next()
    }
  }

  /// Moves on to a readable buffer with bytes left; false when there is none. Stops in front of a writable one.
  @inlinable
  @inline(__always)
  mutating func reachReadable() throws(VirtqueueError) -> Bool {
    while current.byteCount == 0 {
      guard let segment = try next() else { return false }
      current = segment
    }
    return !current.isDeviceWritable
  }

  /// Moves on to a writable buffer with bytes left, past what is left unread; false when there is none.
  @inlinable
  @inline(__always)
  mutating func reachWritable() throws(VirtqueueError) -> Bool {
    while current.byteCount == 0 || !current.isDeviceWritable {
      guard let segment = try next() else { return false }
      current = segment
    }
    return true
  }

  @usableFromInline
  mutating func readDivided<T: GuestInteger>(_: T.Type) throws(VirtqueueError) -> T? {
    var value = T.zero
    for byte in 0..<MemoryLayout<T>.size {
      guard let part = try read(UInt8.self) else { return nil }
      value |= T(part) << T(8 * byte)
    }
    return value
  }

  @usableFromInline
  mutating func writeDivided<T: GuestInteger>(_ value: T) throws(VirtqueueError) -> Bool {
    for byte in 0..<MemoryLayout<T>.size {
      guard try write(UInt8(truncatingIfNeeded: value >> T(8 * byte))) else { return false }
    }
    return true
  }
}

extension Segment {
  @inlinable
  @inline(__always)
  mutating func skip(_ byteCount: UInt32) {
    // The address was read at and so is guest memory; only a buffer that ends the address space wraps, and is empty then.
    address = GuestAddress(address.rawValue &+ UInt64(byteCount))
    self.byteCount &-= byteCount
  }
}
