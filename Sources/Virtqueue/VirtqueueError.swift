public import GuestRAM

/// A ring that breaks the specification, or a virtqueue that cannot be set up. The device then needs a reset (2.1.2).
public enum VirtqueueError: Error, Equatable, Sendable {
  /// Queue Size is not a power of two from 1 to 32768 (2.7).
  case illegalSize(UInt16)
  /// The available index claims more buffers than the ring can hold beside those the device still has (2.7.6).
  case availableIndexTooFarAhead(index: UInt16, nextAvailable: UInt16, inFlight: UInt16, size: UInt16)
  /// The used index in memory does not fit the next available entry that the queue is to go on from.
  case usedIndexDoesNotFit(used: UInt16, nextAvailable: UInt16, size: UInt16)
  /// An available entry names a descriptor outside the table (2.7.6).
  case headOutOfRange(head: UInt16, size: UInt16)
  /// A descriptor's `next` lies outside its table (2.7.5).
  case nextOutOfRange(next: UInt16, count: Int)
  /// A chain has more descriptors than its table: it loops, or the driver broke 2.7.5.
  case chainTooLong(head: UInt16, most: Int)
  /// A chain's buffers add up to 2³² bytes or more (2.7.5).
  case chainTooLarge(head: UInt16)
  /// A device-readable descriptor follows a device-writable one (2.7.4.2).
  case readableAfterWritable(head: UInt16)
  /// An indirect descriptor although `VIRTIO_F_INDIRECT_DESC` was not negotiated (2.7.5.3.1).
  case indirectNotNegotiated(head: UInt16)
  /// An indirect descriptor inside an indirect table (2.7.5.3.1).
  case indirectInsideIndirect(head: UInt16)
  /// A descriptor with both the indirect and the next flag (2.7.5.3.1).
  case indirectWithNext(head: UInt16)
  /// An indirect table whose length is 0, no multiple of 16, or more than 32768 descriptors (2.7.5.3).
  case illegalIndirectLength(head: UInt16, byteCount: UInt32)
  /// An in-flight area that has fewer entries than the queue descriptors, or another number than it was made for.
  case inflightAreaTooSmall(entryCount: UInt16, size: UInt16)
  /// An in-flight area of a layout that nobody here knows.
  case inflightAreaUnknown(features: UInt64, version: UInt16)
  /// An in-flight area that speaks of chains that this ring cannot have in flight.
  case inflightAreaBroken(head: UInt16, size: UInt16)
  /// A ring or a buffer is not guest memory, or not aligned.
  case memory(GuestMemoryError)
  /// The device's own rules of what a buffer holds are broken, by what it says.
  case malformedRequest(String)
}

extension VirtqueueError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .illegalSize(let size): "queue size \(size) is not a power of two from 1 to 32768"
    case .availableIndexTooFarAhead(let index, let next, let inFlight, let size):
      "available index \(index) is beyond what a ring of \(size) can hold (next \(next), \(inFlight) in flight)"
    case .usedIndexDoesNotFit(let used, let next, let size):
      "used index \(used) in memory does not fit the next available index \(next) of a ring of \(size)"
    case .headOutOfRange(let head, let size): "head \(head) is outside a descriptor table of \(size)"
    case .nextOutOfRange(let next, let count): "next descriptor \(next) is outside a table of \(count)"
    case .chainTooLong(let head, let most): "chain \(head) has more than \(most) descriptors, or loops"
    case .chainTooLarge(let head): "the buffers of chain \(head) add up to 4 GiB or more"
    case .readableAfterWritable(let head): "chain \(head) has a device-readable buffer after a device-writable one"
    case .indirectNotNegotiated(let head): "chain \(head) uses an indirect table, which was not negotiated"
    case .indirectInsideIndirect(let head): "chain \(head) has an indirect table inside an indirect table"
    case .indirectWithNext(let head): "chain \(head) has a descriptor that is indirect and has a next"
    case .illegalIndirectLength(let head, let byteCount): "chain \(head) has an indirect table of \(byteCount) bytes"
    case .inflightAreaTooSmall(let count, let size): "an in-flight area of \(count) entries, where \(size) are needed"
    case .inflightAreaUnknown(let features, let version):
      "an in-flight area of version \(version) with features 0x\(String(features, radix: 16)), which is not known"
    case .inflightAreaBroken(let head, let size):
      "an in-flight area names chain \(head), which cannot be in flight on this ring of \(size)"
    case .memory(let error): error.description
    case .malformedRequest(let what): what
    }
  }
}
