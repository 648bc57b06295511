import CLinux
import Glibc

/// A socket none of whose calls ever waits, nor raises a signal. It is closed with its value.
public struct Socket: ~Copyable, Sendable {
  /// The open descriptor, to watch in an event loop.
  public let descriptor: FileDescriptor
  private var file: SocketFile?

  /// How it carries what is sent.
  public enum Kind: Sendable {
    /// A stream of bytes to one peer.
    case stream
    /// Messages, each whole or not at all.
    case datagram

    var number: UInt32 { self == .stream ? SOCK_STREAM.rawValue : SOCK_DGRAM.rawValue }
  }

  /// Makes one for addresses of the same family as `address`.
  public init(_ kind: Kind, for address: SocketAddress) throws(LinuxError) {
    try self.init(family: address.family, type: kind.number)
  }

  /// Takes over an open socket. It is not changed, only asked call by call not to wait; so `accept` and `connect` do
  /// wait on one that others have made to.
  public init(owning descriptor: consuming FileDescriptor) {
    self.descriptor = descriptor
  }

  init(family: Int32, type: UInt32, transport: Int32 = 0) throws(LinuxError) {
    let type = Int32(type | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    descriptor = FileDescriptor(owning: try retrying("socket") { socket(family, type, transport) })
  }

  /// Two sockets that are connected to each other.
  public struct Pair: ~Copyable, Sendable {
    public let first: Socket
    public let second: Socket
  }

  /// Makes two sockets that are connected to each other.
  public static func pair(_ kind: Kind) throws(LinuxError) -> Pair {
    var numbers: (Int32, Int32) = (-1, -1)
    let type = Int32(kind.number | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    _ = try retrying("socketpair") {
      unsafe withUnsafeMutableBytes(of: &numbers) { (buffer) in
        unsafe socketpair(AF_UNIX, type, 0, buffer.assumingMemoryBound(to: Int32.self).baseAddress)
      }
    }
    return Pair(
      first: Socket(owning: FileDescriptor(owning: numbers.0)),
      second: Socket(owning: FileDescriptor(owning: numbers.1)))
  }
}

extension Socket {
  /// Takes an address for its own.
  ///
  /// The file of a unix socket is removed with the value; one that is there and that nobody holds is replaced.
  /// `EADDRINUSE` is thrown when somebody has the address, `EEXIST` when there is a file that is not a socket.
  public mutating func bind(to address: SocketAddress) throws(LinuxError) {
    let number = descriptor.rawValue
    if let path = address.path {
      try SocketFile.removeLeftOver(at: path)
    } else {
      // A TCP port is taken over from connections that have just ended.
      try setOption(SOL_SOCKET, SO_REUSEADDR, to: 1)
    }
    _ = try retrying("bind", on: address.description) {
      unsafe address.withSocketAddress { unsafe Glibc.bind(number, $0, $1) }
    }
    file = address.path.map { SocketFile(path: $0) }
  }

  /// Lets peers connect to the address it is bound to.
  /// - Parameter backlog: how many may wait to be accepted.
  public func listen(backlog: Int32 = 16) throws(LinuxError) {
    let number = descriptor.rawValue
    _ = try retrying("listen") { Glibc.listen(number, backlog) }
  }

  /// Takes the next peer that has connected; nil when there is none.
  public func accept() throws(LinuxError) -> Socket? {
    let number = descriptor.rawValue
    let flags = Int32(SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    guard let peer = try unlessItWaits("accept4", { accept4(number, nil, nil, flags) }) else { return nil }
    return Socket(owning: FileDescriptor(owning: peer))
  }

  /// Connects to an address; a datagram socket sends to it from now on.
  /// - Returns: false when that takes time: the descriptor becomes writable, and `pendingError` tells how it went.
  public func connect(to address: SocketAddress) throws(LinuxError) -> Bool {
    let number = descriptor.rawValue
    while true {
      if unsafe address.withSocketAddress({ unsafe Glibc.connect(number, $0, $1) }) == 0 { return true }
      if errno == EINPROGRESS { return false }
      if errno != EINTR { throw LinuxError(call: "connect", subject: address.description) }
    }
  }

  /// What has failed since the last question: a connection that was begun, or a message that was refused.
  public var pendingError: LinuxError? {
    var number: Int32 = 0
    var length = socklen_t(MemoryLayout<Int32>.size)
    let result = unsafe getsockopt(descriptor.rawValue, SOL_SOCKET, SO_ERROR, &number, &length)
    if result != 0 { return LinuxError(call: "getsockopt") }
    return number == 0 ? nil : LinuxError(call: "connect", number: number)
  }

  /// Whether there is a peer: a connection that was begun has been made.
  public var isConnected: Bool {
    var address = sockaddr()
    // What does not fit is cut off; only whether there is an address counts.
    var length = socklen_t(MemoryLayout<sockaddr>.size)
    return unsafe getpeername(descriptor.rawValue, &address, &length) == 0
  }

  /// The address it is bound to.
  public var localAddress: SocketAddress {
    get throws(LinuxError) {
      var storage = sockaddr_storage()
      let number = descriptor.rawValue
      return try unsafe withUnsafeMutablePointer(to: &storage) { (storage) throws(LinuxError) in
        try unsafe storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { (address) throws(LinuxError) in
          var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
          _ = try retrying("getsockname") { unsafe getsockname(number, address, &length) }
          return unsafe SocketAddress(address, length)
        }
      }
    }
  }

  /// Has what is sent over TCP leave at once; nothing happens on other sockets.
  public func sendAtOnce() {
    // It fails only where there is nothing to be changed.
    _ = try? setOption(Int32(IPPROTO_TCP), TCP_NODELAY, to: 1)
  }

  func setOption(_ level: Int32, _ name: Int32, to value: Int32) throws(LinuxError) {
    var value = value
    let number = descriptor.rawValue
    _ = try retrying("setsockopt") {
      unsafe setsockopt(number, level, name, &value, socklen_t(MemoryLayout<Int32>.size))
    }
  }

  /// Receives once into a part of `bytes`, which must lie within them.
  /// - Returns: how many bytes came, 0 at the end of a stream; nil when there is nothing now.
  public func receive(into bytes: inout [UInt8], at range: Range<Int>) throws(LinuxError) -> Int? {
    let number = descriptor.rawValue
    return try unsafe bytes.withMutableRange(range) { (start, count) throws(LinuxError) in
      try unlessItWaits("recv") { unsafe recv(number, start, count, Int32(MSG_DONTWAIT)) }
    }
  }

  /// Sends once from a part of `bytes`, which must lie within them.
  /// - Returns: how many bytes the kernel took; nil when it has no room now.
  public func send(_ bytes: [UInt8], at range: Range<Int>) throws(LinuxError) -> Int? {
    let number = descriptor.rawValue
    return try unsafe bytes.withRange(range) { (start, count) throws(LinuxError) in
      try unlessItWaits("send") { unsafe Glibc.send(number, start, count, Int32(MSG_DONTWAIT | MSG_NOSIGNAL)) }
    }
  }
}
