import CLinux
import Glibc

/// Ranges of memory as one transfer. With an offset the bytes are at that place of a file; without one they are next
/// in a stream.
extension FileDescriptor {
  /// Reads once into `vectors`.
  /// - Returns: how many bytes the kernel stored, 0 at the end; `EAGAIN` is thrown when the descriptor does not block
  ///   and has nothing.
  public func read(into vectors: borrowing IOVectors, at offset: Int? = nil) throws(LinuxError) -> Int {
    try unsafe vectors.withElements(from: 0) { (elements, count) throws(LinuxError) in
      try retrying(offset == nil ? "readv" : "preadv") { unsafe readOnce(elements, count, at: offset) }
    }
  }

  /// Writes once from `vectors`.
  /// - Returns: how many bytes the kernel took; `EAGAIN` is thrown when the descriptor does not block and is full.
  public func write(_ vectors: borrowing IOVectors, at offset: Int? = nil) throws(LinuxError) -> Int {
    try unsafe vectors.withElements(from: 0) { (elements, count) throws(LinuxError) in
      try retrying(offset == nil ? "writev" : "pwritev") { unsafe writeOnce(elements, count, at: offset) }
    }
  }

  /// Reads from a file what is in memory already, and does not wait for the rest.
  /// - Returns: how many bytes the kernel stored, fewer than there is room for when the rest would have to be waited for;
  ///   nil when that holds from the first byte on, or the file system cannot tell.
  public func readCached(into vectors: borrowing IOVectors, at offset: Int) throws(LinuxError) -> Int? {
    let number = rawValue
    do throws(LinuxError) {
      return try unsafe vectors.withElements(from: 0) { (elements, count) throws(LinuxError) in
        try retrying("preadv2") {
          unsafe preadv2(number, elements, Int32(count), offset, Int32(CLINUX_RWF_NOWAIT))
        }
      }
    } catch {
      guard error.number == EAGAIN || error.number == EOPNOTSUPP else { throw error }
      return nil
    }
  }

  /// Reads until `vectors` are full or the end has come.
  /// - Parameter limit: `ETIMEDOUT` is thrown when the call has to wait longer. It holds only on a descriptor that does
  ///   not block (see `setBlocking`); on any other the kernel waits without asking.
  /// - Returns: how many bytes were read.
  public func readAll(
    into vectors: borrowing IOVectors, at offset: Int? = nil, within limit: Duration? = nil
  ) throws(LinuxError) -> Int {
    try transfer(
      offset == nil ? "readv" : "preadv", byteCount: vectors.totalByteCount, descriptor: rawValue, events: POLLIN,
      until: Deadline(after: limit)
    ) { (done) in
      unsafe vectors.withElements(from: done) { unsafe readOnce($0, $1, at: offset.map { $0 &+ done }) }
    }
  }

  /// Writes all bytes of `vectors`. A pipe or socket whose reader is gone is the error `EPIPE`, not a signal.
  /// - Parameter limit: see `readAll(into:at:within:)`.
  public func writeAll(
    _ vectors: borrowing IOVectors, at offset: Int? = nil, within limit: Duration? = nil
  ) throws(LinuxError) {
    let call = offset == nil ? "writev" : "pwritev"
    let count = try withoutBrokenPipeSignal(isPossible: offset == nil) { () throws(LinuxError) in
      try transfer(
        call, byteCount: vectors.totalByteCount, descriptor: rawValue, events: POLLOUT, until: Deadline(after: limit)
      ) { (done) in
        unsafe vectors.withElements(from: done) { unsafe writeOnce($0, $1, at: offset.map { $0 &+ done }) }
      }
    }
    guard count == vectors.totalByteCount else { throw LinuxError(call: call, number: EIO) }
  }

  @unsafe private func readOnce(_ elements: UnsafePointer<iovec>, _ count: Int, at offset: Int?) -> Int {
    guard let offset else { return unsafe readv(rawValue, elements, Int32(count)) }
    // One range alone is cheaper without a list: most requests of a disk have just one.
    if count == 1 { return unsafe pread(rawValue, elements[0].iov_base, elements[0].iov_len, offset) }
    return unsafe preadv(rawValue, elements, Int32(count), offset)
  }

  @unsafe private func writeOnce(_ elements: UnsafePointer<iovec>, _ count: Int, at offset: Int?) -> Int {
    guard let offset else { return unsafe writev(rawValue, elements, Int32(count)) }
    if count == 1 { return unsafe pwrite(rawValue, elements[0].iov_base, elements[0].iov_len, offset) }
    return unsafe pwritev(rawValue, elements, Int32(count), offset)
  }
}
