public import GuestRAM
public import LinuxIO

/// Why a store did not do what it was asked for. A driver sees an I/O error, the operator the sentence.
public enum StoreError: Error, Equatable, Sendable {
  /// The kernel refused.
  case system(LinuxError)
  /// The driver's buffers are not guest memory.
  case memory(GuestMemoryError)
  /// The medium ends before the place that was asked for.
  case beyondEnd(at: UInt64, byteCount: UInt64)
  /// The store cannot be written.
  case readOnly
  /// The store's size cannot be changed, or not to this.
  case fixedSize
  /// The store cannot do this.
  case unsupported
  /// Somebody else has the medium in use.
  case inUse
  /// A size that no disk can have: not a multiple of 512 bytes, or beyond the limits of the medium.
  case illegalSize(UInt64)
  /// A flush failed where the disk was before it moved here.
  case flushFailedElsewhere
  /// The NBD server or the connection to it is at fault.
  case nbd(NBDError)
  /// The image itself is the reason.
  case image(Qcow2Error)
  /// Neither a file nor a block device.
  case noImage
  /// A failure that was asked for, to test what stands on the store.
  case injected
}

extension StoreError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .system(let error): error.description
    case .memory(let error): error.description
    case .beyondEnd(let place, let count): "\(count) bytes at byte \(place): beyond the end of the image"
    case .readOnly: "the image is read-only"
    case .fixedSize: "the size of this image cannot be changed"
    case .unsupported: "this image cannot do that"
    case .inUse: "another process has the image in use"
    case .illegalSize(let size):
      "\(size) bytes: a disk's size is a multiple of 512 bytes, at least one, within the image's limits"
    case .flushFailedElsewhere: "a flush failed before the disk came here"
    case .nbd(let error): error.description
    case .image(let error): error.description
    case .noImage: "this is neither a file nor a block device"
    case .injected: "a failure that was asked for"
    }
  }
}

extension StoreError {
  static func corrupt(_ damage: Qcow2Damage) -> StoreError { .image(.corrupt(damage)) }
}

extension StoreError {
  /// Whether an image was not made because there is a file of its name.
  public var isFileThere: Bool {
    if case .system(let error) = self { return error.isFileThere }
    return false
  }
}

/// Runs what calls the kernel and names its error as one of ours.
func system<Result: ~Copyable>(
  _ body: () throws(LinuxError) -> Result
) throws(StoreError) -> Result {
  do {
    return try body()
  } catch {
    throw .system(error)
  }
}
