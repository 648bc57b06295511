import LinuxIO
import Synchronization

/// A raw image: a file or block device whose bytes are the disk's.
public final class FileStore: BlockStore {
  public let isReadOnly: Bool
  public let limits: BlockLimits

  private let file: FileDescriptor
  /// For transfers that the medium does not take past the page cache.
  private let buffered: FileDescriptor?
  private let mediumFlush = MediumFlush()
  private let isInMemory: Bool
  private let size: Atomic<UInt64>

  /// Opens the image at `path`.
  /// - Parameters:
  ///   - isReadOnly: opens it for reading alone.
  ///   - unbuffered: goes past the page cache, except for transfers that are not aligned to the medium's blocks.
  public init(path: String, isReadOnly: Bool = false, unbuffered: Bool = false) throws(StoreError) {
    let access: FileDescriptor.Access = isReadOnly ? .reading : .readingAndWriting
    let file = try system { () throws(LinuxError) in
      // A named pipe is no image, and nobody has its other end.
      try FileDescriptor.open(path, for: access, unbuffered: unbuffered, waits: false)
    }
    if unbuffered {
      buffered = try system { () throws(LinuxError) in try FileDescriptor.open(path, for: access, waits: false) }
    } else {
      buffered = nil
    }
    let measured = try Self.measure(file)
    isInMemory = measured.isInMemory
    size = Atomic(measured.byteCount)
    self.file = file
    self.isReadOnly = isReadOnly
    limits = BlockLimits()
  }

  /// A disk in memory, gone with the process; a page costs memory once it is written.
  /// - Parameter byteCount: a multiple of 512.
  public init(inMemory byteCount: UInt64) throws(StoreError) {
    let bytes = try Self.checked(byteCount)
    let file = try system { () throws(LinuxError) in
      try MemoryFile.create(name: "disk", byteCount: bytes, isResizable: true)
    }
    isInMemory = true
    size = Atomic(byteCount)
    self.file = file
    buffered = nil
    isReadOnly = false
    limits = BlockLimits()
  }

  private static func measure(_ file: borrowing FileDescriptor) throws(StoreError) -> (
    isInMemory: Bool, byteCount: UInt64
  ) {
    let status = try system { () throws(LinuxError) in try file.status }
    guard status.kind == .regularFile || status.kind == .blockDevice else { throw .noImage }
    let byteCount = try system { () throws(LinuxError) in try file.measuredByteCount() }
    // Of a last sector that is not whole the guest could see nothing.
    guard byteCount > 0, byteCount % 512 == 0 else { throw .illegalSize(UInt64(byteCount)) }
    return (status.isInMemory, UInt64(byteCount))
  }

  private static func checked(_ byteCount: UInt64) throws(StoreError) -> Int {
    guard byteCount > 0, byteCount % 512 == 0, let bytes = Int(exactly: byteCount) else {
      throw .illegalSize(byteCount)
    }
    return bytes
  }

  public var byteCount: UInt64 { size.load(ordering: .acquiring) }

  public func resize(toByteCount byteCount: UInt64) throws(StoreError) {
    let bytes = try Self.checked(byteCount)
    guard !isReadOnly else { throw .readOnly }
    try system { () throws(LinuxError) in
      // A block device has the size that it has.
      if try file.status.kind != .blockDevice { try file.truncate(toByteCount: bytes) }
    }
    guard try Self.measure(file).byteCount >= byteCount else { throw .fixedSize }
    size.store(byteCount, ordering: .releasing)
  }

  public func refresh() throws(StoreError) {
    size.store(try Self.measure(file).byteCount, ordering: .releasing)
  }

  public func setExclusive(_ isExclusive: Bool) throws(StoreError) {
    let lock = ImageLock(isWriter: !isReadOnly)
    try system { () throws(LinuxError) in try lock.release(file) }
    guard isExclusive else { return }
    guard try system({ () throws(LinuxError) in try lock.acquire(file) }) else { throw .inUse }
    try refresh()
  }

  public func perform(
    _ operation: BlockOperation, _ data: inout BlockData, mayWait: Bool
  ) throws(StoreError) -> Bool {
    switch operation {
    case .read(let place): return try read(&data, at: place, mayWait: mayWait || isInMemory)
    case .write(let place): return try write(&data, at: place, mayWait: mayWait)
    case .flush, .discard, .writeZeroes:
      guard mayWait || isInMemory else { return false }
      try change(operation)
      return true
    }
  }

  private func read(_ data: inout BlockData, at place: UInt64, mayWait: Bool) throws(StoreError) -> Bool {
    let offset = try offset(place, data.byteCount)
    let wanted = data.byteCount
    let count = try data.fill(0..<wanted) { (vectors) throws(StoreError) in
      try system { () throws(LinuxError) in
        if mayWait { return try readAll(vectors, at: offset) }
        return buffered == nil ? try file.readCached(into: vectors, at: offset) ?? 0 : 0
      }
    }
    guard count < wanted else { return true }
    guard !mayWait else { throw .beyondEnd(at: place, byteCount: UInt64(wanted)) }
    return false
  }

  private func readAll(_ vectors: borrowing IOVectors, at offset: Int) throws(LinuxError) -> Int {
    do throws(LinuxError) {
      return try file.readAll(into: vectors, at: offset)
    } catch {
      guard error.isUnaligned, buffered != nil else { throw error }
      return try buffered?.readAll(into: vectors, at: offset) ?? 0
    }
  }

  /// What goes into the page cache waits for nobody.
  private func write(_ data: inout BlockData, at place: UInt64, mayWait: Bool) throws(StoreError) -> Bool {
    guard !isReadOnly else { throw .readOnly }
    guard mayWait || buffered == nil else { return false }
    let offset = try offset(place, data.byteCount)
    let count = data.byteCount
    _ = try data.drain(0..<count) { (vectors) throws(StoreError) in
      try system { () throws(LinuxError) in try writeAll(vectors, at: offset) }
      return count
    }
    return true
  }

  private func writeAll(_ vectors: borrowing IOVectors, at offset: Int) throws(LinuxError) {
    do throws(LinuxError) {
      try file.writeAll(vectors, at: offset)
    } catch {
      guard error.isUnaligned, buffered != nil else { throw error }
      try buffered?.writeAll(vectors, at: offset)
    }
  }

  private func change(_ operation: BlockOperation) throws(StoreError) {
    switch operation {
    // To give no space back is a way to discard too.
    case .discard(let range): _ = try attempt(range, byPunching: true)
    case .writeZeroes(let range, let mayUnmap):
      if mayUnmap, try attempt(range, byPunching: true) { return }
      if try attempt(range, byPunching: false) { return }
      try writeZeros(at: try offset(range.lowerBound, range.count), byteCount: range.count)
    default: try mediumFlush.perform { () throws(LinuxError) in try file.synchronize() }
    }
  }

  /// Makes a range read as zeros without writing it.
  /// - Returns: false when the file system or medium cannot do so, or not with such a range.
  private func attempt(_ range: Range<UInt64>, byPunching: Bool) throws(StoreError) -> Bool {
    guard !isReadOnly else { throw .readOnly }
    let offset = try offset(range.lowerBound, range.count)
    guard !range.isEmpty else { return true }
    do throws(LinuxError) {
      if byPunching {
        try file.punchHole(at: offset, byteCount: range.count)
      } else {
        try file.zeroRange(at: offset, byteCount: range.count)
      }
      return true
    } catch {
      guard error.isUnsupported || error.isUnaligned else { throw .system(error) }
      return false
    }
  }

  private func writeZeros(at offset: Int, byteCount: Int) throws(StoreError) {
    let zeros = [UInt8](repeating: 0, count: min(byteCount, 1 << 20))
    for start in stride(from: 0, to: byteCount, by: zeros.count) {
      let piece = byteCount - start < zeros.count ? Array(zeros.prefix(byteCount - start)) : zeros
      try system { () throws(LinuxError) in
        if buffered == nil {
          try file.writeAll(piece, at: offset + start)
        } else {
          try buffered?.writeAll(piece, at: offset + start)
        }
      }
    }
  }

  /// The place as the kernel has it. The image may have become shorter than it was.
  private func offset(_ place: UInt64, _ length: Int) throws(StoreError) -> Int {
    guard place <= byteCount, UInt64(length) <= byteCount - place, let offset = Int(exactly: place) else {
      throw .beyondEnd(at: place, byteCount: UInt64(length))
    }
    return offset
  }
}
