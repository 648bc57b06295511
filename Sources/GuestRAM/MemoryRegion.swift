public import LinuxIO

/// One stretch of guest memory and the host memory behind it, mapped while any copy of this value lives.
public struct MemoryRegion: Sendable {
  /// The guest addresses that the region answers to.
  public let range: GuestRange
  /// The bytes that the kernel hands out and takes back at a time: 4096, or the huge page's size.
  public let backingPageByteCount: Int
  /// Where the region starts in its file, in bytes; 0 for memory of this process alone.
  public let fileOffset: UInt64

  let mapping: Mapping
  let mappingOffset: Int
  let file: SharedFile?
  /// Whether the kernel puts huge pages behind it where it has some.
  let prefersHugePages: Bool

  /// Guest memory in a file or memfd that others may map as well.
  ///
  /// The whole file up to the region's end is mapped, as vhost-user wants it: a huge-page file refuses an offset that
  /// is not a multiple of its pages.
  /// - Parameters:
  ///   - fileOffset: where the region starts in the file, in bytes.
  ///   - byteCount: the region's length in bytes.
  public init(
    file: consuming FileDescriptor, at fileOffset: UInt64 = 0, byteCount: UInt64, start: GuestAddress
  ) throws(GuestMemoryError) {
    let status = try system { () throws(LinuxError) in try file.status }
    let file = SharedFile(file, status)
    let (end, overflow) = fileOffset.addingReportingOverflow(byteCount)
    let size = UInt64(max(0, status.byteCount))
    guard !overflow, end <= size else {
      throw .fileTooShort(needed: overflow ? .max : end, is: size)
    }
    range = try MemoryRegion.checked(GuestRange(start: start, byteCount: byteCount))
    let page = UInt64(status.pageByteCount)
    // A file may be so long that no Int holds its last page's end; then the kernel refuses to map it.
    let mapped = Int(clamping: (end + page - 1) / page * page)
    mapping = try system { () throws(LinuxError) in try Mapping(of: file.descriptor, byteCount: mapped) }
    mappingOffset = Int(fileOffset)
    self.fileOffset = fileOffset
    backingPageByteCount = status.pageByteCount
    prefersHugePages = false
    self.file = file
  }

  /// Guest memory that only this process sees.
  ///
  /// - Parameter hugePages: has the kernel put 2 MiB at once behind it where it has them. Memory is got and used faster
  ///   then, but a touch of any page may cost as much, and of a part that is given back nothing is gained.
  public init(
    anonymous byteCount: UInt64, start: GuestAddress, hugePages: Bool = false
  ) throws(GuestMemoryError) {
    range = try MemoryRegion.checked(GuestRange(start: start, byteCount: byteCount))
    mapping = try system { () throws(LinuxError) in try Mapping(anonymous: Int(byteCount)) }
    mappingOffset = 0
    fileOffset = 0
    backingPageByteCount = 4096
    prefersHugePages = hugePages
    file = nil
    if hugePages { try system { () throws(LinuxError) in try mapping.preferHugePages() } }
  }

  /// A new shared region of zero pages in a memfd of its own that cannot be made shorter or longer.
  ///
  /// - Parameter hugePages: take 2 MiB pages from the kernel's pool, which an operator has to fill.
  public init(
    memoryFile byteCount: UInt64, start: GuestAddress, hugePages: Bool = false
  ) throws(GuestMemoryError) {
    let file = try system { () throws(LinuxError) in
      try MemoryFile.create(name: "guest-ram", byteCount: Int(clamping: byteCount), hugePages: hugePages)
    }
    try self.init(file: file, byteCount: byteCount, start: start)
  }

  /// Another descriptor for the region's file, to hand to a peer; nil for memory of this process alone.
  public func duplicateFile() throws(LinuxError) -> FileDescriptor? {
    guard let file else { return nil }
    return try file.descriptor.duplicate()
  }

  private static func checked(_ range: GuestRange) throws(GuestMemoryError) -> GuestRange {
    guard range.byteCount > 0, range.byteCount <= UInt64(Int.max / 2), range.end != nil else {
      throw .emptyOrEndless(range)
    }
    return range
  }
}

/// A descriptor that all copies of a region share.
final class SharedFile: Sendable {
  let descriptor: FileDescriptor
  /// As it was at first.
  let status: FileStatus

  init(_ descriptor: consuming FileDescriptor, _ status: FileStatus) {
    self.descriptor = descriptor
    self.status = status
  }
}
