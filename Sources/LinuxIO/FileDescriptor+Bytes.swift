import Glibc

/// Bytes in arrays. With an offset the bytes are at that place of a file; without one they are next in a stream.
extension FileDescriptor {
  /// Reads what is there, at most `byteCount` bytes; none at the end. The caller bounds `byteCount`.
  public func readBytes(upTo byteCount: Int, at offset: Int? = nil) throws(LinuxError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: byteCount)
    let number = rawValue
    var span = bytes.mutableSpan
    let count = try unsafe span.withUnsafeMutableBytes { (buffer) throws(LinuxError) in
      try retrying(offset == nil ? "read" : "pread") {
        if let offset { return unsafe pread(number, buffer.baseAddress, buffer.count, offset) }
        return unsafe Glibc.read(number, buffer.baseAddress, buffer.count)
      }
    }
    bytes.removeLast(bytes.count - count)
    return bytes
  }

  /// Reads exactly `byteCount` bytes. The caller bounds `byteCount`: it is allocated at once.
  /// - Parameter limit: see `readAll(into:within:)`.
  /// - Returns: nil at the end; `ECONNRESET` is thrown when the end comes after some of the bytes.
  public func readBytes(
    exactly byteCount: Int, at offset: Int? = nil, within limit: Duration? = nil
  ) throws(LinuxError) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: byteCount)
    var span = bytes.mutableSpan
    let count = try unsafe span.withUnsafeMutableBytes { (buffer) throws(LinuxError) in
      try unsafe readAll(into: buffer, at: offset, within: limit)
    }
    if count == byteCount { return bytes }
    guard count == 0 else { throw LinuxError(call: offset == nil ? "read" : "pread", number: ECONNRESET) }
    return nil
  }

  /// Writes what there is room for; `EAGAIN` is thrown for none on a descriptor that does not block.
  /// - Returns: how many bytes were written.
  public func write(upTo bytes: ArraySlice<UInt8>) throws(LinuxError) -> Int {
    let number = rawValue
    return try unsafe bytes.span.withUnsafeBytes { (buffer) throws(LinuxError) in
      try withoutBrokenPipeSignal { () throws(LinuxError) in
        try retrying("write") { unsafe Glibc.write(number, buffer.baseAddress, buffer.count) }
      }
    }
  }

  /// Writes all of `bytes`.
  /// - Parameter limit: see `readAll(into:within:)`.
  public func writeAll(_ bytes: [UInt8], at offset: Int? = nil, within limit: Duration? = nil) throws(LinuxError) {
    try unsafe bytes.span.withUnsafeBytes { (buffer) throws(LinuxError) in
      try unsafe writeAll(buffer, at: offset, within: limit)
    }
  }

  /// Reads until `buffer` is full or the end has come.
  /// - Parameter limit: `ETIMEDOUT` is thrown when the call has to wait longer. It holds only on a descriptor that does
  ///   not block (see `setBlocking`); on any other the kernel waits without asking.
  /// - Returns: how many bytes were read.
  @unsafe public func readAll(
    into buffer: UnsafeMutableRawBufferPointer, at offset: Int? = nil, within limit: Duration? = nil
  ) throws(LinuxError) -> Int {
    let number = rawValue
    return try transfer(
      offset == nil ? "read" : "pread", byteCount: buffer.count, descriptor: number, events: POLLIN,
      until: Deadline(after: limit)
    ) { (done) in
      let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
      if let offset { return unsafe pread(number, rest.baseAddress, rest.count, offset &+ done) }
      return unsafe Glibc.read(number, rest.baseAddress, rest.count)
    }
  }

  /// Writes all of `buffer`. A pipe or socket whose reader is gone is the error `EPIPE`, not a signal.
  /// - Parameter limit: see `readAll(into:within:)`.
  @unsafe public func writeAll(
    _ buffer: UnsafeRawBufferPointer, at offset: Int? = nil, within limit: Duration? = nil
  ) throws(LinuxError) {
    let number = rawValue
    let call = offset == nil ? "write" : "pwrite"
    let count = try withoutBrokenPipeSignal(isPossible: offset == nil) { () throws(LinuxError) in
      try transfer(
        call, byteCount: buffer.count, descriptor: number, events: POLLOUT, until: Deadline(after: limit)
      ) { (done) in
        let rest = unsafe UnsafeRawBufferPointer(rebasing: buffer[done...])
        if let offset { return unsafe pwrite(number, rest.baseAddress, rest.count, offset &+ done) }
        return unsafe Glibc.write(number, rest.baseAddress, rest.count)
      }
    }
    guard count == buffer.count else { throw LinuxError(call: call, number: EIO) }
  }
}
