public import GuestRAM
public import LinuxIO
public import VirtioCore

/// Why a connection with a front-end ended before the front-end closed it.
public enum VhostUserError: Error, Equatable, Sendable {
  /// The kernel refused, or the peer broke off inside a message or did not read its answers.
  case system(LinuxError)
  /// A message of a protocol version that does not exist.
  case wrongVersion(request: UInt32, flags: UInt32)
  /// An answer where a request was expected, or the other way round.
  case wrongDirection(request: UInt32)
  /// A message longer than any that makes sense.
  case payloadTooLarge(request: UInt32, byteCount: Int, most: Int)
  /// A payload that is not as long as its message says it is.
  case wrongPayloadSize(request: UInt32, byteCount: Int, expected: Int)
  /// More or fewer descriptors than belong to the message.
  case wrongDescriptorCount(request: UInt32, count: Int, expected: ClosedRange<Int>)
  /// A message that this back-end does not know or did not offer, sent without a way to say so.
  case unsupported(request: UInt32)
  /// Feature bits that were not offered.
  case featuresNotOffered(UInt64)
  /// Protocol feature bits that were not offered.
  case protocolFeaturesNotOffered(UInt64)
  /// A memory table with no region, or too many.
  case wrongRegionCount(UInt32, most: Int)
  /// A memory region that runs past the end of the front-end's address space.
  case regionEndless(userAddress: UInt64, byteCount: UInt64)
  /// A memory region to take away that was never added.
  case noSuchRegion(guestAddress: UInt64, byteCount: UInt64)
  /// A memory region that was added before, as part of another file.
  case otherFile(guestAddress: UInt64)
  /// A ring address that is in no region of the memory table.
  case notInMemoryTable(userAddress: UInt64)
  /// A ring address, or a memory region to take away, before there was any memory.
  case noMemoryTable
  /// The device has no such ring.
  case noSuchRing(UInt32, count: Int)
  /// A ring size that is not a power of two from 1 to 32768.
  case illegalRingSize(UInt32, ring: Int)
  /// A next available index beyond 16 bits.
  case illegalRingBase(UInt32, ring: Int)
  /// An in-flight region for more queues than there are, or for none, or for queues of a size that does not exist.
  case illegalInflightRegion(queueCount: UInt16, queueSize: UInt16)
  /// An in-flight region that has no room for its queues.
  case inflightRegionTooShort(byteCount: UInt64, needed: UInt64)
  /// A postcopy migration that begins without having been announced.
  case postcopyNotAdvised
  /// A front-end that cannot provide the pages of memory that was mapped for it.
  case memoryRefused(UInt64)
  /// A transfer of state in a direction, or a phase of migration, that does not exist.
  case illegalStateTransfer(direction: UInt32, phase: UInt32)
  /// A ring without kick descriptor, which would have to be polled.
  case pollingNeeded(ring: Int)
  /// An MTU that no network device may have (5.1.4.1).
  case illegalMTU(UInt64)
  /// A device status that is no byte.
  case illegalStatus(UInt64)
  /// Guest memory that cannot be used.
  case memory(GuestMemoryError)
  /// The device refused.
  case host(HostError)
}

extension VhostUserError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .system(let error): error.description
    case .wrongVersion(let request, let flags):
      "\(requestName(request)): flags 0x\(String(flags, radix: 16)) are not of protocol version 1"
    case .wrongDirection(let request): "\(requestName(request)): a request where an answer is due, or the reverse"
    case .payloadTooLarge(let request, let count, let most):
      "\(requestName(request)): a payload of \(count) bytes, where at most \(most) are taken"
    case .wrongPayloadSize(let request, let count, let expected):
      "\(requestName(request)): a payload of \(count) bytes instead of \(expected)"
    case .wrongDescriptorCount(let request, let count, let expected):
      "\(requestName(request)): \(count) descriptors instead of \(Self.text(expected))"
    case .unsupported(let request): "\(requestName(request)): not supported, or not negotiated"
    case .featuresNotOffered(let bits): "features that were not offered: \(Features(low: bits))"
    case .protocolFeaturesNotOffered(let bits): "protocol features that were not offered: \(Features(low: bits))"
    case .wrongRegionCount(let count, let most): "a memory table of \(count) regions instead of 1 to \(most)"
    case .regionEndless(let address, let count):
      "a memory region of \(count) bytes at user address 0x\(String(address, radix: 16)) has no end"
    case .noSuchRegion(let address, let count):
      "a memory region of \(count) bytes at guest address 0x\(String(address, radix: 16)) is not in the memory table"
    case .otherFile(let address):
      "the memory region at guest address 0x\(String(address, radix: 16)) is added again as part of another file"
    case .notInMemoryTable(let address):
      "user address 0x\(String(address, radix: 16)) is in no region of the memory table"
    case .noMemoryTable: "a ring address, or a region to take away, came before any memory"
    case .noSuchRing(let index, let count): "ring \(index) of a device that has \(count)"
    case .illegalRingSize(let size, let ring): "ring \(ring): size \(size) is not a power of two from 1 to 32768"
    case .illegalRingBase(let base, let ring): "ring \(ring): base \(base) is beyond 65535"
    case .illegalInflightRegion(let count, let size): "an in-flight region for \(count) queues of size \(size)"
    case .inflightRegionTooShort(let count, let needed):
      "an in-flight region of \(count) bytes, where \(needed) are needed"
    case .postcopyNotAdvised: "POSTCOPY_LISTEN came without POSTCOPY_ADVISE"
    case .memoryRefused(let number): "the front-end refuses to provide the memory's pages: \(number)"
    case .illegalStateTransfer(let direction, let phase):
      "a transfer of state in direction \(direction) and phase \(phase) of a migration"
    case .pollingNeeded(let ring): "ring \(ring) has no kick descriptor, and rings are not polled"
    case .illegalMTU(let mtu): "MTU \(mtu) is not between 68 and 65535"
    case .illegalStatus(let status): "device status 0x\(String(status, radix: 16)) is more than a byte"
    case .memory(let error): error.description
    case .host(let error): error.description
    }
  }

  private static func text(_ counts: ClosedRange<Int>) -> String {
    counts.count == 1 ? "\(counts.lowerBound)" : "\(counts.lowerBound) to \(counts.upperBound)"
  }
}

/// Runs what calls the kernel and names its error as one of ours.
func system<Result: ~Copyable>(
  _ body: () throws(LinuxError) -> Result
) throws(VhostUserError) -> Result {
  do {
    return try body()
  } catch {
    throw .system(error)
  }
}

/// Runs what describes guest memory and names its error as one of ours.
func guestMemory<Result: ~Copyable>(
  _ body: () throws(GuestMemoryError) -> Result
) throws(VhostUserError) -> Result {
  do {
    return try body()
  } catch {
    throw .memory(error)
  }
}

/// Runs what calls the device and names its error as one of ours.
func host<Result: ~Copyable>(
  _ body: () throws(HostError) -> Result
) throws(VhostUserError) -> Result {
  do {
    return try body()
  } catch {
    throw .host(error)
  }
}
