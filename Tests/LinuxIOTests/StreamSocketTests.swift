import Glibc
import LinuxIO
import Support
import Testing

@Suite("Stream socket") struct StreamSocketTests {
  private let limit = patience

  /// Runs a body with a socket and its peer, connected over a path.
  private func withPair(_ body: (borrowing StreamSocket, borrowing UnixSocket) throws -> Void) throws {
    let directory = try TemporaryDirectory()
    let listener = try UnixListener(path: directory.path + "/s")
    let socket = try StreamSocket.connect(toPath: directory.path + "/s", within: limit)
    try body(socket, try listener.accept())
  }

  @Test("bytes arrive in order, in one piece or in two")
  func bytes() throws {
    try withPair { (socket, peer) in
      try socket.send([1, 2], isFirstPart: true, within: limit)
      try socket.send([3], within: limit)
      let received = try unwrap(try peer.receive(exactly: 3, within: limit)).bytes
      #expect(received == [1, 2, 3])
      try peer.send([4, 5])
      let answer = try socket.receive(exactly: 2, within: limit)
      #expect(answer == [4, 5])
    }
  }

  @Test("a peer that says nothing, or takes nothing, is not waited for beyond the limit")
  func limits() throws {
    try withPair { (socket, _) in
      let received = failure { () throws(LinuxError) in
        _ = try socket.receive(exactly: 1, within: .milliseconds(2))
      }
      #expect(received?.isTimeOut == true)
      let sent = failure { () throws(LinuxError) in
        try socket.send([UInt8](repeating: 0, count: 1 << 24), within: .milliseconds(2))
      }
      #expect(sent?.isTimeOut == true)
    }
  }

  @Test("a peer that is gone is an error or the end, and no signal")
  func gone() throws {
    try withPair { (socket, peer) in
      try peer.send([1])
      peer.shutDown()
      let half = failure { () throws(LinuxError) in _ = try socket.receive(exactly: 2, within: limit) }
      #expect(half?.isPeerGone == true)
      let end = try socket.receive(exactly: 1, within: limit)
      #expect(end == nil)
      let sent = failure { () throws(LinuxError) in try socket.send([1], within: limit) }
      #expect(sent?.isPeerGone == true)
    }
  }

  @Test("where nobody listens there is no connection; the error says where")
  func nobody() {
    // Port 1 is nobody's on any machine that builds this.
    let refused = failure { () throws(LinuxError) in
      _ = try StreamSocket.connect(toHost: "127.0.0.1", port: 1, within: limit)
    }
    #expect(refused == LinuxError(call: "connect", subject: "127.0.0.1:1", number: ECONNREFUSED))
    let unknown = failure { () throws(LinuxError) in
      _ = try StreamSocket.connect(toHost: "no such host", port: 1, within: limit)
    }
    #expect(unknown?.call == "getaddrinfo")
    let missing = failure { () throws(LinuxError) in _ = try StreamSocket.connect(toPath: "/none/s", within: limit) }
    #expect(missing?.number == ENOENT)
  }

  @Test("a connection over TCP carries bytes both ways")
  func overTCP() throws {
    let listener = FileDescriptor(owning: Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0))
    let port = try Self.listenOnLoopback(listener)
    let socket = try StreamSocket.connect(toHost: "127.0.0.1", port: port, within: limit)
    let number = listener.rawValue
    let peer = try StreamSocket(owning: FileDescriptor(owning: accept(number, nil, nil)))
    try socket.send([1, 2, 3], within: limit)
    let received = try peer.receive(exactly: 3, within: limit)
    #expect(received == [1, 2, 3])
    try peer.send([4], within: limit)
    let answer = try socket.receive(exactly: 1, within: limit)
    #expect(answer == [4])
  }

  private static func listenOnLoopback(_ listener: borrowing FileDescriptor) throws -> UInt16 {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let number = listener.rawValue
    let result = unsafe withUnsafeMutablePointer(to: &address) { (pointer) in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { (pointer) in
        let bound = unsafe bind(number, pointer, length) == 0 && listen(number, 1) == 0
        return unsafe bound && getsockname(number, pointer, &length) == 0
      }
    }
    guard result else { throw LinuxError(call: "bind", number: errno) }
    return UInt16(bigEndian: address.sin_port)
  }
}
