import LinuxIO
import Synchronization

/// The file that an image is kept in. What is beyond its end reads as zeros.
final class ImageFile: Sendable {
  /// How the file is about to be changed.
  enum Change: Equatable, Sendable {
    case write(at: UInt64, byteCount: Int)
    case extend(toByteCount: UInt64)
    case zero(at: UInt64, byteCount: Int)
    case punch(at: UInt64, byteCount: Int)
    /// All before survives a loss of power once this is done.
    case synchronize
  }

  /// Hears of every change before it is made and may refuse it: what the file then holds is what a crash would leave.
  typealias Gate = @Sendable (Change) throws(StoreError) -> Void

  let isInMemory: Bool
  private let isBlockDevice: Bool
  private let descriptor: FileDescriptor
  private let knownByteCount: Atomic<UInt64>
  private let gate: Gate?
  private let mediumFlush = MediumFlush()

  init(_ descriptor: consuming FileDescriptor, gate: Gate? = nil) throws(StoreError) {
    let status: FileStatus
    let byteCount: Int
    do throws(LinuxError) {
      status = try descriptor.status
      byteCount = try descriptor.measuredByteCount()
    } catch {
      throw .system(error)
    }
    isInMemory = status.isInMemory
    isBlockDevice = status.kind == .blockDevice
    knownByteCount = Atomic(UInt64(byteCount))
    self.descriptor = descriptor
    self.gate = gate
  }

  convenience init(path: String, isWritable: Bool, gate: Gate? = nil) throws(StoreError) {
    let descriptor = try system { () throws(LinuxError) in
      // A named pipe is no image, and nobody has its other end.
      try FileDescriptor.open(path, for: isWritable ? .readingAndWriting : .reading, waits: false)
    }
    try self.init(descriptor, gate: gate)
  }

  /// A new file. One that exists is the error `EEXIST`.
  convenience init(creating path: String) throws(StoreError) {
    let descriptor = try system { () throws(LinuxError) in
      try FileDescriptor.open(path, for: .readingAndWriting, creating: .always)
    }
    try self.init(descriptor)
  }

  /// The length that was last seen.
  var byteCount: UInt64 { knownByteCount.load(ordering: .acquiring) }

  /// Looks at the length again.
  func measure() throws(StoreError) {
    let measured = try system { () throws(LinuxError) in try descriptor.measuredByteCount() }
    knownByteCount.store(UInt64(measured), ordering: .releasing)
  }

  /// Whether a place is within the file, which somebody else may have made longer.
  func contains(_ offset: UInt64) throws(StoreError) -> Bool {
    if offset < byteCount { return true }
    try measure()
    return offset < byteCount
  }

  // MARK: - Reading

  /// Reads what there is.
  /// - Returns: how many bytes; fewer than there is room for at the end, or when the rest would have to be waited for.
  func read(
    into vectors: borrowing IOVectors, at offset: UInt64, mayWait: Bool
  ) throws(StoreError) -> Int {
    let place = try Self.place(offset)
    do throws(LinuxError) {
      if mayWait || isInMemory { return try descriptor.readAll(into: vectors, at: place) }
      return try descriptor.readCached(into: vectors, at: place) ?? 0
    } catch {
      throw .system(error)
    }
  }

  /// A copy of a range, whose length the caller bounds.
  func bytes(at offset: UInt64, count: Int) throws(StoreError) -> [UInt8] {
    let place = try Self.place(offset)
    var bytes = try system { () throws(LinuxError) in try descriptor.readBytes(upTo: count, at: place) }
    while bytes.count < count {
      let more = try system { () throws(LinuxError) in
        try descriptor.readBytes(upTo: count - bytes.count, at: place + bytes.count)
      }
      bytes += more.isEmpty ? [UInt8](repeating: 0, count: count - bytes.count) : more
    }
    return bytes
  }

  // MARK: - Changing

  func write(_ vectors: borrowing IOVectors, at offset: UInt64) throws(StoreError) {
    try gate?(.write(at: offset, byteCount: vectors.totalByteCount))
    let place = try Self.place(offset)
    do throws(LinuxError) {
      try descriptor.writeAll(vectors, at: place)
    } catch {
      throw .system(error)
    }
  }

  func write(_ bytes: [UInt8], at offset: UInt64) throws(StoreError) {
    try gate?(.write(at: offset, byteCount: bytes.count))
    let place = try Self.place(offset)
    try system { () throws(LinuxError) in try descriptor.writeAll(bytes, at: place) }
  }

  func synchronize() throws(StoreError) {
    try gate?(.synchronize)
    try mediumFlush.perform { () throws(LinuxError) in try descriptor.synchronize() }
  }

  /// Makes the file long enough. A block device has the length that it has.
  func extend(toByteCount byteCount: UInt64) throws(StoreError) {
    guard byteCount > self.byteCount else { return }
    guard !isBlockDevice else { throw .beyondEnd(at: self.byteCount, byteCount: byteCount - self.byteCount) }
    try gate?(.extend(toByteCount: byteCount))
    let length = try Self.place(byteCount)
    try system { () throws(LinuxError) in try descriptor.truncate(toByteCount: length) }
    knownByteCount.store(byteCount, ordering: .releasing)
  }

  /// Fills a range with zeros, where the medium can without writing them.
  func zero(at offset: UInt64, byteCount: Int) throws(StoreError) {
    guard byteCount > 0 else { return }
    try gate?(.zero(at: offset, byteCount: byteCount))
    let place = try Self.place(offset)
    do throws(LinuxError) {
      try descriptor.zeroRange(at: place, byteCount: byteCount)
    } catch {
      guard error.isUnsupported else { throw .system(error) }
      try writeZeros(at: place, byteCount: byteCount)
    }
  }

  private func writeZeros(at place: Int, byteCount: Int) throws(StoreError) {
    let zeros = [UInt8](repeating: 0, count: min(byteCount, 1 << 20))
    for start in stride(from: 0, to: byteCount, by: zeros.count) {
      let piece = byteCount - start < zeros.count ? Array(zeros.prefix(byteCount - start)) : zeros
      try system { () throws(LinuxError) in try descriptor.writeAll(piece, at: place + start) }
    }
  }

  /// Gives the space of a range back, where the medium can.
  func punch(at offset: UInt64, byteCount: Int) throws(StoreError) {
    try gate?(.punch(at: offset, byteCount: byteCount))
    let place = try Self.place(offset)
    do throws(LinuxError) {
      try descriptor.punchHole(at: place, byteCount: byteCount)
    } catch {
      guard error.isUnsupported else { throw .system(error) }
    }
  }

  func setExclusive(_ isExclusive: Bool, isWriter: Bool) throws(StoreError) {
    let lock = ImageLock(isWriter: isWriter)
    try system { () throws(LinuxError) in try lock.release(descriptor) }
    guard isExclusive else { return }
    guard try system({ () throws(LinuxError) in try lock.acquire(descriptor) }) else { throw .inUse }
  }

  private static func place(_ offset: UInt64) throws(StoreError) -> Int {
    guard let place = Int(exactly: offset) else { throw .beyondEnd(at: offset, byteCount: 0) }
    return place
  }
}

/// Where bytes of an image are wanted.
protocol ReadTarget: ~Copyable {
  /// Takes a part from a file.
  /// - Returns: false when that would have to wait and may not.
  mutating func read(
    _ part: Range<Int>, from file: ImageFile, at offset: UInt64, mayWait: Bool
  ) throws(StoreError) -> Bool
  mutating func store(_ bytes: [UInt8], at offset: Int) throws(StoreError)
  mutating func zero(_ part: Range<Int>) throws(StoreError)
}

extension BlockData: ReadTarget {
  mutating func read(
    _ part: Range<Int>, from file: ImageFile, at offset: UInt64, mayWait: Bool
  ) throws(StoreError) -> Bool {
    let count = try fill(part) { (vectors) throws(StoreError) in
      try file.read(into: vectors, at: offset, mayWait: mayWait)
    }
    if count == part.count { return true }
    guard mayWait || file.isInMemory else { return false }
    try zero(part.lowerBound + count..<part.upperBound)
    return true
  }
}

/// Bytes of an image in an array.
struct ByteTarget: ReadTarget {
  private(set) var bytes: [UInt8]

  init(byteCount: Int) {
    bytes = [UInt8](repeating: 0, count: byteCount)
  }

  mutating func read(
    _ part: Range<Int>, from file: ImageFile, at offset: UInt64, mayWait: Bool
  ) throws(StoreError) -> Bool {
    guard mayWait || file.isInMemory else { return false }
    bytes.replaceSubrange(part, with: try file.bytes(at: offset, count: part.count))
    return true
  }

  mutating func store(_ new: [UInt8], at offset: Int) {
    bytes.replaceSubrange(offset..<offset + new.count, with: new)
  }

  mutating func zero(_ part: Range<Int>) {
    bytes.replaceSubrange(part, with: repeatElement(0, count: part.count))
  }
}
