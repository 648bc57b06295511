import CLinux
import Glibc

/// A connected stream of bytes to a peer on this machine or another one. It is closed with its value.
///
/// One thread may send while another receives. Every call has a time limit. After an error the two sides no longer agree
/// where in the stream they are: let go of the socket.
public struct StreamSocket: ~Copyable, Sendable {
  /// The open descriptor; it does not block.
  public let descriptor: FileDescriptor

  /// Takes over a stream socket that is connected already.
  public init(owning descriptor: consuming FileDescriptor) throws(LinuxError) {
    try descriptor.setBlocking(false)
    self.descriptor = descriptor
  }

  /// Connects to whoever listens on the socket at `path`.
  /// - Parameter limit: `ETIMEDOUT` is thrown when that takes longer.
  public static func connect(toPath path: String, within limit: Duration) throws(LinuxError) -> StreamSocket {
    let address = try UnixAddress(path: path)
    let socket = try make(AF_UNIX, 0)
    try socket.connect(path, within: limit) { (number) in
      unsafe address.withSocketAddress { unsafe Glibc.connect(number, $0, $1) }
    }
    return socket
  }

  /// Connects to a port of a machine, trying all its addresses in turn.
  /// - Parameters:
  ///   - host: a name, or an address in numbers.
  ///   - limit: `ETIMEDOUT` is thrown when an address takes longer. Finding a name's addresses takes as long as the
  ///     resolver takes. `EADDRNOTAVAIL` is thrown for a name that has none.
  public static func connect(
    toHost host: String, port: UInt16, within limit: Duration
  ) throws(LinuxError) -> StreamSocket {
    let subject = "\(host):\(port)"
    let found = try unsafe addresses(of: host, port: port, subject)
    defer { unsafe freeaddrinfo(found) }
    var failure = LinuxError(call: "getaddrinfo", subject: subject, number: EADDRNOTAVAIL)
    var next = unsafe found
    while let address = unsafe next?.pointee {
      do throws(LinuxError) {
        let socket = try unsafe make(address.ai_family, address.ai_protocol)
        try socket.connect(subject, within: limit) { unsafe Glibc.connect($0, address.ai_addr, address.ai_addrlen) }
        try socket.sendAtOnce()
        return socket
      } catch {
        failure = error
      }
      unsafe next = address.ai_next
    }
    throw failure
  }

  private static func make(_ family: Int32, _ transport: Int32) throws(LinuxError) -> StreamSocket {
    try StreamSocket(
      owning: FileDescriptor(owning: try retrying("socket") { socket(family, streamSocketType, transport) }))
  }

  /// The list is the caller's to free.
  @unsafe private static func addresses(
    of host: String, port: UInt16, _ subject: String
  ) throws(LinuxError) -> UnsafeMutablePointer<addrinfo>? {
    var hints = unsafe addrinfo()
    unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    unsafe hints.ai_flags = AI_NUMERICSERV
    var found: UnsafeMutablePointer<addrinfo>?
    let result = unsafe getaddrinfo(host, String(port), &hints, &found)
    guard result == 0 else {
      throw LinuxError(call: "getaddrinfo", subject: subject, number: result == EAI_SYSTEM ? errno : EADDRNOTAVAIL)
    }
    return unsafe found
  }

  private func connect(
    _ subject: String, within limit: Duration, _ call: (Int32) -> Int32
  ) throws(LinuxError) {
    let number = descriptor.rawValue
    guard call(number) != 0 else { return }
    // A unix socket whose owner has too many peers waiting answers EAGAIN, and cannot be waited for.
    guard errno == EINPROGRESS || errno == EINTR else { throw LinuxError(call: "connect", subject: subject) }
    guard try wait(for: POLLOUT, on: number, until: Deadline(after: limit)) else {
      throw LinuxError(call: "connect", subject: subject, number: ETIMEDOUT)
    }
    var failure: Int32 = 0
    var length = socklen_t(MemoryLayout<Int32>.size)
    _ = try retrying("getsockopt") { unsafe getsockopt(number, SOL_SOCKET, SO_ERROR, &failure, &length) }
    guard failure == 0 else { throw LinuxError(call: "connect", subject: subject, number: failure) }
  }

  /// Has what is sent leave at once: whoever asks and waits gains nothing from a fuller packet.
  private func sendAtOnce() throws(LinuxError) {
    var one: Int32 = 1
    let number = descriptor.rawValue
    _ = try retrying("setsockopt") {
      unsafe setsockopt(number, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
    }
  }

  /// Ends the connection for both sides while the value lives on: a thread that waits in `receive` sees the end.
  public func shutDown() {
    // It fails only when the peer was quicker.
    shutdown(descriptor.rawValue, Int32(SHUT_RDWR))
  }
}

extension StreamSocket {
  /// Sends all of `bytes`. A peer that is gone is the error `EPIPE` or `ECONNRESET`, not a signal.
  /// - Parameters:
  ///   - isFirstPart: whether more follows at once; the kernel may keep the bytes until then.
  ///   - limit: `ETIMEDOUT` is thrown when the peer does not take the bytes for so long.
  public func send(_ bytes: [UInt8], isFirstPart: Bool = false, within limit: Duration) throws(LinuxError) {
    let number = descriptor.rawValue
    let flags = Int32(MSG_NOSIGNAL) | (isFirstPart ? Int32(MSG_MORE) : 0)
    _ = try unsafe bytes.span.withUnsafeBytes { (buffer) throws(LinuxError) in
      try transfer(
        "send", byteCount: buffer.count, descriptor: number, events: POLLOUT, until: Deadline(after: limit)
      ) { (done) in
        let rest = unsafe UnsafeRawBufferPointer(rebasing: buffer[done...])
        return unsafe Glibc.send(number, rest.baseAddress, rest.count, flags)
      }
    }
  }

  /// Sends all bytes of `vectors`; otherwise like the sending of an array.
  public func send(_ vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) {
    let number = descriptor.rawValue
    _ = try transfer(
      "sendmsg", byteCount: vectors.totalByteCount, descriptor: number, events: POLLOUT, until: Deadline(after: limit)
    ) { (done) in
      unsafe vectors.withElements(from: done) { unsafe SocketMessage.send($0, $1, descriptors: [], on: number) }
    }
  }

  /// Receives exactly `byteCount` bytes. The caller bounds `byteCount`: it is allocated at once.
  /// - Parameter limit: `ETIMEDOUT` is thrown when the last byte has not come after so long.
  /// - Returns: nil at the end of the stream; `ECONNRESET` is thrown when it ends after some of the bytes.
  public func receive(exactly byteCount: Int, within limit: Duration) throws(LinuxError) -> [UInt8]? {
    try descriptor.readBytes(exactly: byteCount, within: limit)
  }

  /// Fills all of `vectors` from the stream; `ECONNRESET` is thrown when it ends before.
  /// - Parameter limit: as for an array.
  public func receive(into vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) {
    guard try descriptor.readAll(into: vectors, within: limit) == vectors.totalByteCount else {
      throw LinuxError(call: "readv", number: ECONNRESET)
    }
  }
}
