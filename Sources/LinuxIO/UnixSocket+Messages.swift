import Glibc

extension UnixSocket {
  /// The most descriptors that one message can carry.
  public static let largestDescriptorCount = SocketMessage.largestDescriptorCount

  /// What `receive` took from the stream.
  @frozen public struct Received: ~Copyable, Sendable {
    /// As many as were asked for.
    public let bytes: [UInt8]
    /// What came with them, closed unless taken.
    public var descriptors: DescriptorList
  }

  /// Sends all of `bytes`.
  /// - Parameters:
  ///   - descriptors: borrowed for the call and passed with the first byte; `EINVAL` is thrown when there is none, and
  ///     for more than `largestDescriptorCount`.
  ///   - limit: `ETIMEDOUT` is thrown when the peer does not take the bytes for so long; nil waits for ever.
  public func send(
    _ bytes: [UInt8], descriptors: [Int32] = [], within limit: Duration? = nil
  ) throws(LinuxError) {
    var vectors = IOVectors(capacity: 1)
    try unsafe bytes.span.withUnsafeBytes { (buffer) throws(LinuxError) in
      if let base = buffer.baseAddress {
        // The kernel only reads it.
        _ = unsafe vectors.append(UnsafeMutableRawPointer(mutating: base), byteCount: buffer.count)
      }
      try send(vectors, descriptors: descriptors, within: limit)
    }
  }

  /// Sends all bytes of `vectors`; otherwise like the sending of an array.
  public func send(
    _ vectors: borrowing IOVectors, descriptors: [Int32] = [], within limit: Duration? = nil
  ) throws(LinuxError) {
    guard descriptors.isEmpty || vectors.totalByteCount > 0 else { throw LinuxError(call: "sendmsg", number: EINVAL) }
    let number = descriptor.rawValue
    let count = try transfer(
      "sendmsg", byteCount: vectors.totalByteCount, descriptor: number, events: POLLOUT, until: Deadline(after: limit)
    ) { (done) in
      unsafe vectors.withElements(from: done) {
        unsafe SocketMessage.send($0, $1, descriptors: done == 0 ? descriptors : [], on: number)
      }
    }
    guard count == vectors.totalByteCount else { throw LinuxError(call: "sendmsg", number: EPIPE) }
  }

  /// Receives exactly `byteCount` bytes and what descriptors come with them.
  ///
  /// Nothing beyond them is taken from the stream. The caller bounds `byteCount`: it is allocated at once.
  /// - Parameters:
  ///   - maximumDescriptors: `EMSGSIZE` is thrown when more come, and all of them are closed.
  ///   - limit: `ETIMEDOUT` is thrown when the last byte has not come after so long; nil waits for ever.
  /// - Returns: nil at the end of the stream; `ECONNRESET` is thrown when it ends after some of the bytes.
  public func receive(
    exactly byteCount: Int, maximumDescriptors: Int = 0, within limit: Duration? = nil
  ) throws(LinuxError) -> Received? {
    precondition(byteCount >= 0)
    var bytes = [UInt8](repeating: 0, count: byteCount)
    var descriptors = DescriptorList()
    var vectors = IOVectors(capacity: 1)
    var span = bytes.mutableSpan
    let isWhole = try unsafe span.withUnsafeMutableBytes { (buffer) throws(LinuxError) in
      guard let base = buffer.baseAddress, unsafe !buffer.isEmpty else { return true }
      _ = unsafe vectors.append(base, byteCount: buffer.count)
      return try receive(into: vectors, &descriptors, maximum: maximumDescriptors, within: limit)
    }
    return isWhole ? Received(bytes: bytes, descriptors: descriptors) : nil
  }

  /// Fills all of `vectors` from the stream; descriptors are refused.
  /// - Returns: false at the end of the stream; otherwise like the receiving of an array.
  public func receive(into vectors: borrowing IOVectors, within limit: Duration? = nil) throws(LinuxError) -> Bool {
    var none = DescriptorList()
    return try receive(into: vectors, &none, maximum: 0, within: limit)
  }

  private func receive(
    into vectors: borrowing IOVectors, _ descriptors: inout DescriptorList, maximum: Int, within limit: Duration?
  ) throws(LinuxError) -> Bool {
    let number = descriptor.rawValue
    let maximum = min(maximum, Self.largestDescriptorCount)
    let count = try transfer(
      "recvmsg", byteCount: vectors.totalByteCount, descriptor: number, events: POLLIN, until: Deadline(after: limit)
    ) { (done) throws(LinuxError) in
      let room = maximum - descriptors.count
      let (result, lost) = unsafe vectors.withElements(from: done) {
        unsafe SocketMessage.receive($0, $1, appendingTo: &descriptors, room: room, on: number)
      }
      if lost { throw LinuxError(call: "recvmsg", number: EMSGSIZE) }
      return result
    }
    if count == vectors.totalByteCount { return true }
    guard count == 0, descriptors.isEmpty else { throw LinuxError(call: "recvmsg", number: ECONNRESET) }
    return false
  }
}
