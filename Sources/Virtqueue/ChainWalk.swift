public import GuestRAM

/// The walk along a chain: how far it may go on, and what must be known of the buffers that it has passed (2.7.5).
@usableFromInline
struct ChainWalk {
  /// Whether the chain may go on in an indirect table, or has done so.
  @usableFromInline
  enum Indirection: UInt8 {
    case notNegotiated, allowed, entered
  }

  /// The bytes of descriptors that the chain may still have: it counts down, so no chain is walked for ever. 0 at its end.
  @usableFromInline var left: Int
  /// The bytes of the buffers so far.
  @usableFromInline var byteCount: UInt32 = 0
  /// The bytes of the device-readable buffers, once the device-writable ones have begun.
  @usableFromInline var readableByteCount: UInt32 = 0
  /// `DescriptorFlags.write` once the device-writable buffers have begun, which are the last.
  @usableFromInline var kind: UInt16 = 0
  @usableFromInline var indirection: Indirection

  @inlinable
  @inline(__always)
  init(tableByteCount: Int, allowsIndirect: Bool) {
    left = tableByteCount
    indirection = allowsIndirect ? .allowed : .notNegotiated
  }

  /// Whether the last descriptor has been passed.
  @inlinable
  @inline(__always)
  var isAtEnd: Bool { left == 0 }

  /// The bytes of the device-writable buffers so far.
  @inlinable
  var writableByteCount: UInt32 {
    kind == 0 ? 0 : byteCount &- readableByteCount
  }
}

/// One row of a descriptor table, read once (2.7.5).
@usableFromInline
struct Descriptor {
  @usableFromInline let address: UInt64
  @usableFromInline let length: UInt32
  @usableFromInline let flags: UInt16
  @usableFromInline let next: UInt16

  @inlinable
  @inline(__always)
  init(_ row: (UInt64, UInt64)) {
    address = row.0
    length = UInt32(truncatingIfNeeded: row.1)
    flags = UInt16(truncatingIfNeeded: row.1 &>> 32)
    next = UInt16(truncatingIfNeeded: row.1 &>> 48)
  }

  @inlinable
  @inline(__always)
  func has(_ flag: UInt16) -> Bool { flags & flag != 0 }
}

extension DescriptorChain {
  /// The next buffer of the chain, or nil at its end.
  @inlinable
  @inline(__always)
  public mutating func next() throws(VirtqueueError) -> Segment? {
    guard !walk.isAtEnd else { return nil }
    var descriptor = Descriptor(table.load())
    if descriptor.has(DescriptorFlags.indirect) { descriptor = try enterIndirect(descriptor) }
    try step(descriptor)
    try account(descriptor)
    return Segment(
      address: GuestAddress(descriptor.address), byteCount: descriptor.length,
      isDeviceWritable: descriptor.has(DescriptorFlags.write))
  }

  @inlinable
  @inline(__always)
  mutating func step(_ descriptor: Descriptor) throws(VirtqueueError) {
    guard descriptor.has(DescriptorFlags.next) else {
      walk.left = 0
      return
    }
    guard table.go(to: descriptor.next) else {
      throw .nextOutOfRange(next: descriptor.next, count: table.count)
    }
    let left = walk.left &- PairTable.rowByteCount
    guard left != 0 else { throw .chainTooLong(head: head, most: table.count) }
    walk.left = left
  }

  @inlinable
  @inline(__always)
  mutating func account(_ descriptor: Descriptor) throws(VirtqueueError) {
    let (sum, overflow) = walk.byteCount.addingReportingOverflow(descriptor.length)
    guard !overflow else { throw .chainTooLarge(head: head) }
    let kind = descriptor.flags & DescriptorFlags.write
    if kind != walk.kind {
      guard kind != 0 else { throw .readableAfterWritable(head: head) }
      walk.readableByteCount = walk.byteCount
      walk.kind = kind
    }
    walk.byteCount = sum
  }

  /// Goes on in an indirect table, whose own length bounds the rest of the chain: Linux makes such tables longer than
  /// the queue, although 2.7.5.3.1 says not to.
  ///
  /// - Returns: the table's first descriptor.
  @inlinable
  @inline(__always)
  mutating func enterIndirect(_ pointer: Descriptor) throws(VirtqueueError) -> Descriptor {
    guard walk.indirection == .allowed else {
      throw walk.indirection == .entered ? .indirectInsideIndirect(head: head) : .indirectNotNegotiated(head: head)
    }
    guard !pointer.has(DescriptorFlags.next) else { throw .indirectWithNext(head: head) }
    let length = pointer.length
    guard length != 0, length % 16 == 0, length <= 16 &* UInt32(RingLayout.mostEntries) else {
      throw .illegalIndirectLength(head: head, byteCount: length)
    }
    do throws(GuestMemoryError) {
      try table.move(to: GuestAddress(pointer.address), byteCount: Int(length))
    } catch {
      throw .memory(error)
    }
    walk.indirection = .entered
    walk.left = table.byteCount
    let first = Descriptor(table.load())
    guard !first.has(DescriptorFlags.indirect) else { throw .indirectInsideIndirect(head: head) }
    return first
  }
}
