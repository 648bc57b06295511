public import GuestRAM

/// Why the guest cannot boot, go on, or be restored.
public enum GuestError: Error, Equatable, Sendable {
  /// The guest's own access to its memory failed: an address in its tables is wrong.
  case memory(GuestMemoryError)
  /// The guest wants its memory in one piece from address 0, in whole pages and fewer than 2³² of them.
  case unsuitableMemory(GuestRange)
  /// The memory is too small for what the guest was told to keep in it, in pages.
  case tooSmall(pageCount: UInt64, wanted: UInt64)
  /// The disk has not even one of the guest's blocks, in sectors.
  case diskTooSmall(sectorCount: UInt64, wanted: UInt64)
  /// The memory does not begin with a boot block of this guest.
  case notAGuest(found: UInt64)
  /// A number in the guest's boot block or driver page, or in its registers, cannot be.
  case damaged(field: String, value: UInt64)
  /// The transport failed, or the device refused what the driver asked.
  case transport(TransportError)
  /// The device did not accept the features that the driver chose (3.1.1).
  case featuresRefused(UInt64)
  /// The device has no such queue, though it negotiated the feature that needs it.
  case missingQueue(Int)
  /// The device broke a rule of the ring.
  case device(DeviceFault)
}

/// How a device broke the ring, as its driver sees it.
public enum DeviceFault: Error, Equatable, Sendable {
  /// The used index is ahead of the buffers made available (2.7.8).
  case usedIndexTooFarAhead(used: UInt16, last: UInt16, outstanding: UInt16)
  /// A used entry names a descriptor outside the table.
  case usedHeadOutOfRange(head: UInt32, size: UInt16)
  /// A used entry names a chain that the device does not have.
  case usedHeadNotOutstanding(head: UInt32)
  /// More bytes are said to be written than the buffer has (2.7.8.2).
  case usedTooLong(head: UInt32, byteCount: UInt32, capacity: UInt32)
  /// A batch of buffers used in order ends with none of those made available (2.7.9).
  case batchWithoutEnd(head: UInt32)
}

extension GuestError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .memory(let error): "the guest's own memory access failed: \(error)"
    case .unsuitableMemory(let range): "\(range): a guest needs one stretch from address 0, in whole pages"
    case .tooSmall(let count, let wanted): "the guest has \(count) pages of memory but needs \(wanted)"
    case .diskTooSmall(let count, let wanted): "the disk has \(count) sectors but a guest needs \(wanted)"
    case .notAGuest(let found): "no guest in this memory: it begins with 0x\(String(found, radix: 16))"
    case .damaged(let field, let value): "the guest's state is damaged: \(field) cannot be \(value)"
    case .transport(let error): error.description
    case .featuresRefused(let features): "the device refused features 0x\(String(features, radix: 16))"
    case .missingQueue(let index): "the device has no queue \(index), which the negotiated features need"
    case .device(let fault): fault.description
    }
  }
}

extension DeviceFault: CustomStringConvertible {
  public var description: String {
    switch self {
    case .usedIndexTooFarAhead(let used, let last, let outstanding):
      "the device's used index is \(used), with \(outstanding) buffers outstanding since \(last)"
    case .usedHeadOutOfRange(let head, let size): "the device used descriptor \(head) of a table of \(size)"
    case .usedHeadNotOutstanding(let head): "the device used chain \(head), which it does not have"
    case .usedTooLong(let head, let byteCount, let capacity):
      "the device says it wrote \(byteCount) bytes into the \(capacity) of chain \(head)"
    case .batchWithoutEnd(let head): "the device used a batch up to chain \(head), which is not in it"
    }
  }
}
