public import GuestRAM

/// The walk along a chain: which descriptor comes next, and the rules that a driver may break on the way (2.7.5).
@usableFromInline
struct ChainWalk {
  /// Whether the chain may go on in an indirect table, or has done so.
  @usableFromInline
  enum Indirection: UInt8 {
    case notNegotiated, allowed, entered
  }

  /// The next descriptor's index in the table, or `atEnd`.
  @usableFromInline var index: Int
  /// The table's number of descriptors.
  @usableFromInline var count: Int
  /// How many more descriptors the chain may have: it counts down, so no chain is walked for ever.
  @usableFromInline var left: Int
  /// The bytes of the buffers so far, and of the device-writable ones among them.
  @usableFromInline var byteCount: UInt32 = 0
  @usableFromInline var writableByteCount: UInt32 = 0
  /// `DescriptorFlags.write` once the device-writable buffers have begun, which are the last.
  @usableFromInline var kind: UInt16 = 0
  @usableFromInline var indirection: Indirection

  @usableFromInline static let atEnd = -1

  @inlinable
  @inline(__always)
  init(head: UInt16, size: UInt16, allowsIndirect: Bool) {
    index = Int(head)
    count = Int(size)
    left = Int(size)
    indirection = allowsIndirect ? .allowed : .notNegotiated
  }
}

extension DescriptorChain {
  /// The next buffer of the chain, or nil at its end.
  @inlinable
  @inline(__always)
  public mutating func next() throws(VirtqueueError) -> Segment? {
    while walk.index != ChainWalk.atEnd {
      guard walk.left > 0 else { throw .chainTooLong(head: head, most: walk.count) }
      walk.left &-= 1
      let offset = walk.index &* RingLayout.descriptorByteCount
      let (address, word) = table.loadPair(at: offset)
      let length = UInt32(truncatingIfNeeded: word)
      let flags = UInt16(truncatingIfNeeded: word &>> 32)
      if flags & DescriptorFlags.indirect != 0 {
        try enterIndirect(at: address, length, flags)
        continue
      }
      try step(flags, to: UInt16(truncatingIfNeeded: word &>> 48))
      try account(length, flags)
      return Segment(
        address: GuestAddress(address), byteCount: length, isDeviceWritable: flags & DescriptorFlags.write != 0)
    }
    return nil
  }

  @inlinable
  @inline(__always)
  mutating func step(_ flags: UInt16, to next: UInt16) throws(VirtqueueError) {
    guard flags & DescriptorFlags.next != 0 else {
      walk.index = ChainWalk.atEnd
      return
    }
    guard Int(next) < walk.count else { throw .nextOutOfRange(next: next, count: walk.count) }
    walk.index = Int(next)
  }

  @inlinable
  @inline(__always)
  mutating func account(_ length: UInt32, _ flags: UInt16) throws(VirtqueueError) {
    let (sum, overflow) = walk.byteCount.addingReportingOverflow(length)
    guard !overflow else { throw .chainTooLarge(head: head) }
    walk.byteCount = sum
    let kind = flags & DescriptorFlags.write
    guard kind >= walk.kind else { throw .readableAfterWritable(head: head) }
    walk.kind = kind
    if kind != 0 { walk.writableByteCount &+= length }
  }

  /// Goes on in an indirect table, whose own length bounds the rest of the chain: Linux makes such tables longer than
  /// the queue, although 2.7.5.3.1 says not to.
  @inlinable
  @inline(__always)
  mutating func enterIndirect(at address: UInt64, _ length: UInt32, _ flags: UInt16) throws(VirtqueueError) {
    guard walk.indirection == .allowed else {
      throw walk.indirection == .entered ? .indirectInsideIndirect(head: head) : .indirectNotNegotiated(head: head)
    }
    guard flags & DescriptorFlags.next == 0 else { throw .indirectWithNext(head: head) }
    guard length != 0, length % 16 == 0, length <= 16 &* UInt32(RingLayout.mostEntries) else {
      throw .illegalIndirectLength(head: head, byteCount: length)
    }
    do throws(GuestMemoryError) {
      try table.move(to: GuestAddress(address), byteCount: Int(length))
    } catch {
      throw .memory(error)
    }
    walk.indirection = .entered
    walk.index = 0
    walk.count = Int(length) / RingLayout.descriptorByteCount
    walk.left = walk.count
  }
}
