import Glibc

/// Parts of arrays, one call each, for descriptors that do not block.
extension FileDescriptor {
  /// Reads once into a part of `bytes`, which must lie within them.
  /// - Returns: how many bytes the kernel stored, 0 at the end; nil when there is nothing now.
  public func readOnce(into bytes: inout [UInt8], at range: Range<Int>) throws(LinuxError) -> Int? {
    let number = rawValue
    return try unsafe bytes.withMutableRange(range) { (start, count) throws(LinuxError) in
      try unlessItWaits("read") { unsafe Glibc.read(number, start, count) }
    }
  }

  /// Writes once from a part of `bytes`, which must lie within them. For devices: a pipe or socket without reader raises
  /// a signal.
  /// - Returns: how many bytes the kernel took; nil when it has no room now.
  public func writeOnce(_ bytes: [UInt8], at range: Range<Int>) throws(LinuxError) -> Int? {
    let number = rawValue
    return try unsafe bytes.withRange(range) { (start, count) throws(LinuxError) in
      try unlessItWaits("write") { unsafe Glibc.write(number, start, count) }
    }
  }
}

extension [UInt8] {
  /// Lends a part to a system call that reads it.
  @inline(__always)
  @unsafe func withRange<Result>(
    _ range: Range<Int>, _ body: (UnsafeRawPointer?, Int) throws(LinuxError) -> Result
  ) throws(LinuxError) -> Result {
    precondition(range.lowerBound >= 0 && range.upperBound <= count)
    return try unsafe span.withUnsafeBytes { (buffer) throws(LinuxError) in
      try unsafe body(buffer.baseAddress.map { unsafe $0 + range.lowerBound }, range.count)
    }
  }

  /// Lends a part to a system call that fills it.
  @inline(__always)
  @unsafe mutating func withMutableRange<Result>(
    _ range: Range<Int>, _ body: (UnsafeMutableRawPointer?, Int) throws(LinuxError) -> Result
  ) throws(LinuxError) -> Result {
    precondition(range.lowerBound >= 0 && range.upperBound <= count)
    var span = mutableSpan
    return try unsafe span.withUnsafeMutableBytes { (buffer) throws(LinuxError) in
      try unsafe body(buffer.baseAddress.map { unsafe $0 + range.lowerBound }, range.count)
    }
  }
}

/// Runs a system call until no signal interrupts it, and turns its -1 into an error.
/// - Returns: nil when it would have had to wait.
@inline(__always)
func unlessItWaits<Result: SignedInteger>(_ call: String, _ body: () -> Result) throws(LinuxError) -> Result? {
  while true {
    let result = body()
    if result >= 0 { return result }
    if errno == EAGAIN { return nil }
    if errno != EINTR { throw LinuxError(call: call) }
  }
}
