import Glibc
import Synchronization

/// Bytes in and bytes out, in order, over a socket, pipes or files.
///
/// Every call has a time limit for all of its bytes; a file is waited for however long it takes. One thread may send
/// while another receives, and any thread may cancel both. A peer that is gone is the error `EPIPE` or `ECONNRESET`, not
/// a signal. After an error the two sides no longer agree where in the stream they are: let go of it.
public final class ByteStream: Sendable {
  private let input: End?
  let output: Mutex<End?>
  private let givenCancellation: Cancellation?
  private let heedsCancellation = Atomic(true)
  /// What the kernel may still read of memory that was sent in place.
  let ledger = ZeroCopyLedger()
  /// Whether descriptors can go with bytes, both ways: that takes a UNIX socket.
  public let passesDescriptors: Bool

  /// Takes over a stream socket that is connected already. It is not changed, only asked call by call not to wait, unless
  /// `startZeroCopy` is called.
  public init(_ socket: consuming Socket, unless cancellation: Cancellation? = nil) throws(LinuxError) {
    passesDescriptors = socket.isLocal
    output = Mutex(End(descriptor: try socket.descriptor.duplicate(), isSocket: true))
    input = End(descriptor: socket.descriptor, isSocket: true)
    givenCancellation = cancellation
  }

  /// Takes over up to two descriptors. Calls on them no longer wait, which everybody notices who shares their open file.
  ///
  /// Without an input the stream is at its end; without an output sending throws `EPIPE`.
  public init(
    input: consuming FileDescriptor?, output: consuming FileDescriptor?, unless cancellation: Cancellation? = nil
  ) throws(LinuxError) {
    passesDescriptors = false
    self.output = Mutex(try End.make(output))
    self.input = try End.make(input)
    givenCancellation = cancellation
  }
}

// MARK: - Cancellation

extension ByteStream {
  /// What ends calls, if anything does.
  public var cancellation: Cancellation? {
    heedsCancellation.load(ordering: .acquiring) ? givenCancellation : nil
  }

  /// Has no later call end by the cancellation.
  /// - Returns: false when it has happened already.
  public func outliveCancellation() -> Bool {
    heedsCancellation.store(false, ordering: .releasing)
    return givenCancellation?.isCancelled != true
  }
}

// MARK: - Sending

extension ByteStream {
  /// Sends all of `bytes`.
  /// - Parameters:
  ///   - limit: `ETIMEDOUT` is thrown when the peer does not take the bytes for so long.
  ///   - descriptors: borrowed for the call and passed with the first byte; where that cannot be, or there is none,
  ///     `EINVAL` is thrown.
  public func send(_ bytes: [UInt8], descriptors: [Int32] = [], within limit: Duration) throws(LinuxError) {
    guard descriptors.isEmpty || passesDescriptors && !bytes.isEmpty else {
      throw LinuxError(call: "sendmsg", number: EINVAL)
    }
    var vectors = IOVectors(capacity: 1)
    try unsafe bytes.span.withUnsafeBytes { (buffer) throws(LinuxError) in
      if let base = buffer.baseAddress {
        // The kernel only reads it.
        _ = unsafe vectors.append(UnsafeMutableRawPointer(mutating: base), byteCount: buffer.count)
      }
      try send(vectors, descriptors, within: limit)
    }
  }

  /// Sends all bytes of `vectors`; otherwise like the sending of an array.
  public func send(_ vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) {
    try send(vectors, [], within: limit)
  }

  private func send(
    _ vectors: borrowing IOVectors, _ descriptors: [Int32], within limit: Duration
  ) throws(LinuxError) {
    try output.withLock { (end) throws(LinuxError) in
      guard let sent = try end?.send(vectors, descriptors, ledger, until: Deadline(after: limit), unless: cancellation),
        sent == vectors.totalByteCount
      else { throw LinuxError(call: "writev", number: EPIPE) }
    }
  }

  /// Tells the peer that no more comes. What it sends can still be received. This waits for a call that sends.
  public func endOutput() {
    output.withLock { (end) in
      if let end, end.isSocket {
        // It fails only when the peer was quicker.
        shutdown(end.descriptor.rawValue, Int32(SHUT_WR))
      }
      end = nil
    }
  }

  /// Ends a socket's stream both ways, so that calls which wait return; pipes and files are left as they are.
  public func shutDown() {
    input?.shutDown()
  }

  /// Waits until a file that is written to is on the disk; sockets, pipes and devices have nothing to wait for.
  public func synchronize() throws(LinuxError) {
    try output.withLock { (end) throws(LinuxError) in
      guard let kind = try end?.descriptor.status.kind, kind == .regularFile || kind == .blockDevice else { return }
      try end?.descriptor.synchronize()
    }
  }
}

// MARK: - Receiving

extension ByteStream {
  /// Receives exactly `byteCount` bytes. The caller bounds `byteCount`: it is allocated at once.
  /// - Parameter limit: `ETIMEDOUT` is thrown when the last byte has not come after so long.
  /// - Returns: nil at the end of the stream; `ECONNRESET` is thrown when it ends after some of the bytes.
  public func receive(exactly byteCount: Int, within limit: Duration) throws(LinuxError) -> [UInt8]? {
    precondition(byteCount >= 0)
    var bytes = [UInt8](repeating: 0, count: byteCount)
    var vectors = IOVectors(capacity: 1)
    var span = bytes.mutableSpan
    let isWhole = try unsafe span.withUnsafeMutableBytes { (buffer) throws(LinuxError) in
      guard let base = buffer.baseAddress, unsafe !buffer.isEmpty else { return true }
      _ = unsafe vectors.append(base, byteCount: buffer.count)
      return try receive(into: vectors, within: limit)
    }
    return isWhole ? bytes : nil
  }

  /// Receives exactly `byteCount` bytes, and what descriptors come with them.
  /// - Parameter most: `EMSGSIZE` is thrown when more come, and all of them are closed.
  /// - Returns: as without descriptors.
  public func receive(
    exactly byteCount: Int, mostDescriptors most: Int, within limit: Duration
  ) throws(LinuxError) -> UnixSocket.Received? {
    guard passesDescriptors else { throw LinuxError(call: "recvmsg", number: EINVAL) }
    precondition(byteCount >= 0)
    var bytes = [UInt8](repeating: 0, count: byteCount)
    var list = DescriptorList()
    var vectors = IOVectors(capacity: 1)
    var span = bytes.mutableSpan
    let received = try unsafe span.withUnsafeMutableBytes { (buffer) throws(LinuxError) in
      guard let base = buffer.baseAddress, unsafe !buffer.isEmpty else { return 0 }
      _ = unsafe vectors.append(base, byteCount: buffer.count)
      return try input?.receive(
        vectors, &list, most: most, until: Deadline(after: limit), unless: cancellation) ?? 0
    }
    if received == byteCount { return UnixSocket.Received(bytes: bytes, descriptors: list) }
    guard received == 0, list.isEmpty else { throw LinuxError(call: "recvmsg", number: ECONNRESET) }
    return nil
  }

  /// Fills all of `vectors` from the stream.
  /// - Returns: false at the end of the stream; otherwise like the receiving of an array.
  public func receive(into vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) -> Bool {
    let received = try input?.receive(vectors, ledger, until: Deadline(after: limit), unless: cancellation) ?? 0
    if received == vectors.totalByteCount { return true }
    guard received == 0 else { throw LinuxError(call: "readv", number: ECONNRESET) }
    return false
  }

  /// Waits until there is something to receive, or the stream is at its end.
  /// - Returns: false when the time was up first.
  public func waitUntilReadable(within limit: Duration) throws(LinuxError) -> Bool {
    try input?.waitUntilReadable(ledger, until: Deadline(after: limit), unless: cancellation) ?? true
  }
}
