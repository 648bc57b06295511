public import LinuxIO

/// Why guest memory could not be described, reached or given back.
public enum GuestMemoryError: Error, Equatable, Sendable {
  /// Part of the range is not memory of this guest.
  case outside(GuestRange)
  /// The address is not a multiple of what its use asks for.
  case unaligned(GuestAddress, multipleOf: Int)
  /// The range is guest memory but not one stretch of one region, which a ring must be.
  case divided(GuestRange)
  /// A map without any memory.
  case noRegions
  /// More regions than a map may have.
  case tooManyRegions(Int, most: Int)
  /// A region of no bytes, or one that runs past the end of the address space.
  case emptyOrEndless(GuestRange)
  /// Two regions claim the same addresses.
  case overlap(GuestRange, GuestRange)
  /// The file behind a region ends before the region does.
  case fileTooShort(needed: UInt64, is: UInt64)
  /// The dirty log has fewer bits than the memory has pages.
  case logTooShort(pages: UInt64, needed: UInt64)
  /// The buffers are more pieces of host memory than one system call takes.
  case tooManyBuffers(most: Int)
  /// The write tracker has been stopped.
  case trackingEnded
  /// There is no host memory for the range: its file has no room, or who has the memory may have no more.
  case noMemory(GuestRange)
  /// The process may not pin so much memory; what it may, in bytes, or nil where that is not what is short.
  case cannotPin(byteCount: UInt64, limit: UInt64?)
  /// The kernel refused.
  case system(LinuxError)
}

extension GuestMemoryError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .outside(let range): "\(range): not guest memory"
    case .unaligned(let address, let multiple): "address \(address) is not a multiple of \(multiple)"
    case .divided(let range): "\(range): spread over several memory regions"
    case .noRegions: "no memory regions"
    case .tooManyRegions(let count, let most): "\(count) memory regions, where at most \(most) are taken"
    case .emptyOrEndless(let range): "\(range): an empty region, or one beyond the address space"
    case .overlap(let first, let second): "memory regions overlap: \(first), \(second)"
    case .fileTooShort(let needed, let size): "a memory region needs \(needed) bytes of a file that has \(size)"
    case .logTooShort(let pages, let needed): "the dirty log covers \(pages) pages, guest memory needs \(needed)"
    case .tooManyBuffers(let most): "more than \(most) buffers for one system call"
    case .trackingEnded: "writes are not tracked any more"
    case .noMemory(let range):
      "\(range): no host memory is left for it (a full file system, such as /dev/shm, too few huge pages, or a limit)"
    case .cannotPin(let byteCount, let limit):
      "\(byteCount) bytes of memory cannot be pinned, and this process may pin "
        + (limit.map { "\($0)" } ?? "any number, if there is as much memory")
        + ": raise the limit (\"ulimit -l\", or LimitMEMLOCK= of its service), give it CAP_IPC_LOCK, or do without pinning"
    case .system(let error): error.description
    }
  }
}

/// Runs what calls the kernel and names its error as one of ours.
func system<Result: ~Copyable>(
  _ body: () throws(LinuxError) -> Result
) throws(GuestMemoryError) -> Result {
  do {
    return try body()
  } catch {
    throw .system(error)
  }
}

/// The same for what gets memory for a range.
func gettingMemory<Result: ~Copyable>(
  for range: GuestRange, _ body: () throws(LinuxError) -> Result
) throws(GuestMemoryError) -> Result {
  do {
    return try body()
  } catch {
    throw error.isLackOfMemory ? .noMemory(range) : .system(error)
  }
}
