import CLinux
import Glibc

/// Length, holes and data of a file.
extension FileDescriptor {
  /// Makes the file `byteCount` bytes long; what is added reads as zeros and takes no space.
  public func truncate(toByteCount byteCount: Int) throws(LinuxError) {
    let number = rawValue
    _ = try retrying("ftruncate") { ftruncate(number, byteCount) }
  }

  /// Gives the memory or disk space of a range back; the range reads as zeros afterwards, for everybody who maps it.
  ///
  /// Only whole pages are given back; parts of pages at either end are zeroed.
  public func punchHole(at offset: Int, byteCount: Int) throws(LinuxError) {
    let number = rawValue
    let mode = Int32(CLINUX_FALLOC_FL_PUNCH_HOLE | CLINUX_FALLOC_FL_KEEP_SIZE)
    _ = try retrying("fallocate") { fallocate(number, mode, offset, byteCount) }
  }

  /// Gives a range memory or disk space; what it holds stays. The file does not get longer.
  public func allocate(at offset: Int, byteCount: Int) throws(LinuxError) {
    let number = rawValue
    _ = try retrying("fallocate") { fallocate(number, Int32(CLINUX_FALLOC_FL_KEEP_SIZE), offset, byteCount) }
  }

  /// Makes a range read as zeros and keeps the space that it takes, without writing it where the medium can do so.
  /// `EOPNOTSUPP` is thrown where it cannot.
  public func zeroRange(at offset: Int, byteCount: Int) throws(LinuxError) {
    let number = rawValue
    let mode = Int32(CLINUX_FALLOC_FL_ZERO_RANGE | CLINUX_FALLOC_FL_KEEP_SIZE)
    _ = try retrying("fallocate") { fallocate(number, mode, offset, byteCount) }
  }

  /// The length in bytes of a file or block device; the place from which streams go on is moved.
  public func measuredByteCount() throws(LinuxError) -> Int {
    let number = rawValue
    return try retrying("lseek") { lseek(number, 0, SEEK_END) }
  }

  /// The first byte at or after `offset` that takes up space, or nil when only a hole is left.
  public func nextData(from offset: Int) throws(LinuxError) -> Int? {
    try seek(to: Int32(CLINUX_SEEK_DATA), from: offset)
  }

  /// The first byte at or after `offset` that lies in a hole, which the end of the file counts as; nil beyond the end.
  public func nextHole(from offset: Int) throws(LinuxError) -> Int? {
    try seek(to: Int32(CLINUX_SEEK_HOLE), from: offset)
  }

  private func seek(to whence: Int32, from offset: Int) throws(LinuxError) -> Int? {
    let number = rawValue
    do {
      return try retrying("lseek") { lseek(number, offset, whence) }
    } catch {
      if error.number == ENXIO { return nil }
      throw error
    }
  }
}
