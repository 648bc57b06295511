import Glibc
import Synchronization

/// A stretch of this process's address space that is unmapped when the last owner lets go of it.
@safe public final class Mapping: Sendable {
  // SAFETY: points at `byteCount` mapped bytes until deinit unmaps them; whoever stores it keeps this object too.
  /// The first mapped byte.
  @unsafe public nonisolated(unsafe) let base: UnsafeMutableRawPointer
  /// What the kernel maps at once where it can.
  public static let hugePageByteCount = 2 << 20
  /// The length in bytes, as asked for.
  public let byteCount: Int
  /// Where in its file the mapping starts, in bytes; 0 for one without.
  let fileOffset: Int
  /// Whether others may map the same memory, or it is this process's alone.
  public let isShared: Bool
  /// Who is told of bytes that are discarded.
  public typealias DiscardWatcher = @Sendable (Range<Int>) -> Void
  private let discardWatcher = Mutex<DiscardWatcher?>(nil)
  private let discardAnnouncement = Mutex<DiscardWatcher?>(nil)
  /// How the memory is pinned.
  let pinning = Mutex(Pin.none)

  /// Maps `byteCount` bytes of a file, shared with everybody else who maps it.
  ///
  /// No memory is reserved: a page costs memory once it is touched.
  /// - Parameter fileOffset: in bytes, a multiple of the file's page size.
  public init(
    of file: borrowing FileDescriptor, at fileOffset: Int = 0, byteCount: Int, writable: Bool = true
  ) throws(LinuxError) {
    let protection = writable ? PROT_READ | PROT_WRITE : PROT_READ
    unsafe base = try Mapping.map(
      byteCount, protection: protection, flags: MAP_SHARED | MAP_NORESERVE, file: file.rawValue, fileOffset: fileOffset)
    self.byteCount = byteCount
    self.fileOffset = fileOffset
    isShared = true
  }

  /// Maps `byteCount` zero bytes that only this process sees.
  public init(anonymous byteCount: Int) throws(LinuxError) {
    unsafe base = try Mapping.map(
      byteCount, protection: PROT_READ | PROT_WRITE, flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, file: -1,
      fileOffset: 0)
    self.byteCount = byteCount
    fileOffset = 0
    isShared = false
  }

  private static func map(
    _ byteCount: Int, protection: Int32, flags: Int32, file: Int32, fileOffset: Int
  ) throws(LinuxError) -> UnsafeMutableRawPointer {
    guard byteCount > 0 else { throw LinuxError(call: "mmap", number: EINVAL) }
    let wish = unsafe placeForHugePages(byteCount, fileOffset: fileOffset)
    let address = unsafe mmap(wish, byteCount, protection, flags, file, fileOffset)
    guard let address = unsafe address, unsafe address != MAP_FAILED else { throw LinuxError(call: "mmap") }
    return unsafe address
  }

  /// Whether the pages of its file lie at such addresses that the kernel can map them huge.
  public var isPlacedForHugePages: Bool {
    unsafe (Int(bitPattern: base) - fileOffset) & (Self.hugePageByteCount - 1) == 0
  }

  /// Where a mapping could have the pages of its file at such addresses that the kernel can map them huge; it is free to
  /// choose others.
  private static func placeForHugePages(_ byteCount: Int, fileOffset: Int) -> UnsafeMutableRawPointer? {
    let huge = hugePageByteCount
    let (room, overflow) = byteCount.addingReportingOverflow(huge)
    guard byteCount >= huge, !overflow else { return nil }
    let found = unsafe mmap(nil, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    guard let found = unsafe found, unsafe found != MAP_FAILED else { return nil }
    unsafe munmap(found, room)
    return unsafe found + ((fileOffset - Int(bitPattern: found)) & (huge - 1))
  }

  /// Has a function called after each discard through this object, with the bytes that may have gone; nil for nobody.
  ///
  /// There is one watcher at a time. It is called on the thread that discards.
  public func watchDiscards(_ watcher: DiscardWatcher?) {
    discardWatcher.withLock { $0 = watcher }
  }

  /// Has a function called before each discard through this object, with the bytes that may be about to go, whose
  /// discard waits for its return; nil for nobody.
  ///
  /// There is one at a time, beside the one who watches. It is called on the thread that discards.
  public func announceDiscards(_ watcher: DiscardWatcher?) {
    discardAnnouncement.withLock { $0 = watcher }
  }

  func willDiscard(_ bytes: Range<Int>) {
    // Outside the lock: it may take its time.
    let watcher = discardAnnouncement.withLock { $0 }
    watcher?(bytes)
  }

  func didDiscard(_ bytes: Range<Int>) {
    discardWatcher.withLock { $0 }?(bytes)
  }

  deinit {
    unsafe munmap(base, byteCount)
  }
}
