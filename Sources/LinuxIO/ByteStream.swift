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

// MARK: - One direction

extension ByteStream {
  /// Where bytes come from or go to.
  struct End: ~Copyable, Sendable {
    let descriptor: FileDescriptor
    /// A socket is asked call by call not to wait and to raise no signal, other than by its page pipe.
    let isSocket: Bool
    /// How a unix socket sends in place.
    private var pagePipe: PagePipe?
    var hasPagePipe: Bool { pagePipe != nil }

    init(descriptor: consuming FileDescriptor, isSocket: Bool) {
      self.descriptor = descriptor
      self.isSocket = isSocket
    }

    static func make(_ descriptor: consuming FileDescriptor?) throws(LinuxError) -> End? {
      guard let descriptor else { return nil }
      let isSocket = try descriptor.status.kind == .socket
      if !isSocket { try descriptor.setBlocking(false) }
      return End(descriptor: descriptor, isSocket: isSocket)
    }

    mutating func startPagePipe() throws(LinuxError) {
      if pagePipe == nil { pagePipe = try PagePipe(into: descriptor) }
    }

    func shutDown() {
      // It fails only when the peer was quicker.
      if isSocket { shutdown(descriptor.rawValue, Int32(SHUT_RDWR)) }
    }

    func send(
      _ vectors: borrowing IOVectors, _ descriptors: [Int32], _ ledger: ZeroCopyLedger, until deadline: Deadline,
      unless cancellation: Cancellation?
    ) throws(LinuxError) -> Int {
      let (number, isSocket) = (descriptor.rawValue, isSocket)
      return try withoutBrokenPipeSignal(isPossible: !isSocket) { () throws(LinuxError) in
        try transfer(
          isSocket ? "sendmsg" : "writev", byteCount: vectors.totalByteCount, descriptor: number, events: POLLOUT,
          until: deadline, unless: cancellation, settling: ledger
        ) { (done) in
          unsafe vectors.withElements(from: done) {
            isSocket
              ? unsafe SocketMessage.send($0, $1, descriptors: done == 0 ? descriptors : [], on: number)
              : unsafe writev(number, $0, Int32($1))
          }
        }
      }
    }

    /// Without a copy, where that has been started, but for what the kernel has no room to note.
    mutating func sendInPlace(
      _ vectors: borrowing IOVectors, _ ledger: ZeroCopyLedger, until deadline: Deadline,
      unless cancellation: Cancellation?
    ) throws(LinuxError) -> Int {
      if hasPagePipe { return try sendThroughPipe(vectors, ledger, until: deadline, unless: cancellation) }
      guard ledger.isUsed else { return try send(vectors, [], ledger, until: deadline, unless: cancellation) }
      let number = descriptor.rawValue
      return try transfer(
        "sendmsg", byteCount: vectors.totalByteCount, descriptor: number, events: POLLOUT, until: deadline,
        unless: cancellation, settling: ledger
      ) { (done) in
        ledger.settle(number)
        return unsafe vectors.withElements(from: done) { (elements, count) in
          let sent = ledger.note { unsafe SocketMessage.sendInPlace(elements, count, on: number) }
          guard sent < 0, errno == ENOBUFS else { return sent }
          let copied = unsafe SocketMessage.send(elements, count, descriptors: [], on: number)
          if copied > 0 { ledger.noteRefusal(copied) }
          return copied
        }
      }
    }

    private mutating func sendThroughPipe(
      _ vectors: borrowing IOVectors, _ ledger: ZeroCopyLedger, until deadline: Deadline,
      unless cancellation: Cancellation?
    ) throws(LinuxError) -> Int {
      let number = descriptor.rawValue
      return try withoutBrokenPipeSignal { () throws(LinuxError) in
        try transfer(
          "splice", byteCount: vectors.totalByteCount, descriptor: number, events: POLLOUT, until: deadline,
          unless: cancellation
        ) { (done) in
          let sent = unsafe vectors.withElements(from: done) { (elements, count) in
            unsafe pagePipe?.send(elements, count, into: number) ?? 0
          }
          if sent > 0 { ledger.noteUncopied(sent) }
          return sent
        }
      }
    }

    func waitUntilReadable(
      _ ledger: ZeroCopyLedger, until deadline: Deadline, unless cancellation: Cancellation?
    ) throws(LinuxError) -> Bool {
      try wait(for: POLLIN, on: descriptor.rawValue, until: deadline, unless: cancellation, settling: ledger)
    }

    func receive(
      _ vectors: borrowing IOVectors, _ ledger: ZeroCopyLedger, until deadline: Deadline,
      unless cancellation: Cancellation?
    ) throws(LinuxError) -> Int {
      let (number, isSocket) = (descriptor.rawValue, isSocket)
      return try transfer(
        isSocket ? "recvmsg" : "readv", byteCount: vectors.totalByteCount, descriptor: number, events: POLLIN,
        until: deadline, unless: cancellation, settling: ledger
      ) { (done) in
        unsafe vectors.withElements(from: done) {
          isSocket ? unsafe SocketMessage.receive($0, $1, on: number) : unsafe readv(number, $0, Int32($1))
        }
      }
    }

    /// From a socket, with the descriptors that come along.
    func receive(
      _ vectors: borrowing IOVectors, _ list: inout DescriptorList, most: Int, until deadline: Deadline,
      unless cancellation: Cancellation?
    ) throws(LinuxError) -> Int {
      let number = descriptor.rawValue
      let most = min(most, SocketMessage.largestDescriptorCount)
      return try transfer(
        "recvmsg", byteCount: vectors.totalByteCount, descriptor: number, events: POLLIN, until: deadline,
        unless: cancellation
      ) { (done) throws(LinuxError) in
        let room = most - list.count
        let (result, lost) = unsafe vectors.withElements(from: done) {
          unsafe SocketMessage.receive($0, $1, appendingTo: &list, room: room, on: number)
        }
        if lost { throw LinuxError(call: "recvmsg", number: EMSGSIZE) }
        return result
      }
    }
  }
}
