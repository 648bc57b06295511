import Glibc
import LinuxIO
import Support
import Testing

@Suite("Socket") struct SocketTests {
  @Test("bytes go through a part of an array, and nothing is waited for")
  func stream() throws {
    let pair = try Socket.pair(.stream)
    var bytes: [UInt8] = [1, 2, 3, 4, 5]
    #expect(try pair.second.receive(into: &bytes, at: 0..<5) == nil)
    #expect(try pair.first.send(bytes, at: 1..<4) == 3)
    #expect(try pair.second.receive(into: &bytes, at: 2..<5) == 3)
    #expect(bytes == [1, 2, 2, 3, 4])
    var sent = 0
    let large = [UInt8](repeating: 7, count: 1 << 20)
    while let count = try pair.first.send(large, at: 0..<large.count) { sent += count }
    #expect(sent > 0)
  }

  @Test("a peer that is gone is the end for one who receives, and an error for one who sends")
  func gone() throws {
    func halfOfPair() throws(LinuxError) -> FileDescriptor { try Socket.pair(.stream).first.descriptor.duplicate() }
    let socket = Socket(owning: try halfOfPair())
    var bytes: [UInt8] = [0]
    #expect(try socket.receive(into: &bytes, at: 0..<1) == 0)
    let failed = failure { () throws(LinuxError) in _ = try socket.send(bytes, at: 0..<1) }
    #expect(failed?.isPeerGone == true)
  }

  @Test("a socket listens on a path, whose file goes with it, and takes over one that nobody holds")
  func unixListener() throws {
    let directory = try TemporaryDirectory()
    let address = try SocketAddress.unix(path: directory.path + "/s")
    #expect(address.description == directory.path + "/s")
    let made = unsafe mknod(directory.path + "/s", S_IFSOCK | 0o600, 0)
    try #require(made == 0)
    do {
      let listener = try listening(on: address)
      #expect(try listener.accept() == nil)
      let second = failure { () throws(LinuxError) in _ = try listening(on: address) }
      #expect(second?.number == EADDRINUSE)
      let client = try Socket(.stream, for: address)
      #expect(try client.connect(to: address))
      let peer = try unwrap(try listener.accept())
      #expect(try peer.send([9], at: 0..<1) == 1)
      var bytes: [UInt8] = [0]
      #expect(try client.receive(into: &bytes, at: 0..<1) == 1)
      #expect(bytes == [9])
    }
    let isLeft = unsafe access(address.description, F_OK) == 0
    #expect(!isLeft)
    let late = try Socket(.stream, for: address)
    let refused = failure { () throws(LinuxError) in _ = try late.connect(to: address) }
    #expect(refused == LinuxError(call: "connect", subject: address.description, number: ENOENT))
  }

  @Test("a connection over TCP is begun without waiting, and told of when it is there")
  func overTCP() throws {
    let any = try #require(try SocketAddress.internet(host: "127.0.0.1", port: 0).first)
    let listener = try listening(on: any)
    let address = try listener.localAddress
    #expect(address.description.hasPrefix("127.0.0.1:"))
    let client = try Socket(.stream, for: address)
    if try !client.connect(to: address) {
      let group = try DescriptorGroup()
      try group.add(client.descriptor.rawValue, for: .writable)
      let loop = try EventLoop()
      try loop.watch(group.descriptor.rawValue) {}
      try loop.runOnce(within: patience)
    }
    #expect(client.pendingError == nil)
    client.sendAtOnce()
    let peer = try unwrap(try listener.accept())
    #expect(try client.send([1, 2], at: 0..<2) == 2)
    let loop = try EventLoop()
    try loop.watch(peer.descriptor.rawValue) {}
    try loop.runOnce(within: patience)
    var bytes: [UInt8] = [0, 0]
    #expect(try peer.receive(into: &bytes, at: 0..<2) == 2)
  }

  @Test("a name without an address, and a path without a place, are errors")
  func noAddress() {
    let unknown = failure { () throws(LinuxError) in
      _ = try SocketAddress.internet(host: "no such host", port: 1)
    }
    #expect(unknown?.call == "getaddrinfo")
    let long = failure { () throws(LinuxError) in
      _ = try SocketAddress.unix(path: String(repeating: "x", count: 108))
    }
    #expect(long?.number == ENAMETOOLONG)
  }

  private func listening(on address: SocketAddress) throws(LinuxError) -> Socket {
    var socket = try Socket(.stream, for: address)
    try socket.bind(to: address)
    try socket.listen()
    return socket
  }
}

@Suite("Messages") struct MessageTests {
  private static let bytes = [UInt8](0..<200)

  /// The message's bytes.
  private func copy(_ messages: borrowing IncomingMessages, _ index: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: messages.byteCount(index))
    messages.copy(0..<bytes.count, of: index, to: &bytes, at: 0)
    return bytes
  }

  @Test("many messages of many parts go in one call, and come in as many as fit")
  func batches() throws {
    let pair = try Socket.pair(.datagram)
    var outgoing = OutgoingMessages(messageCount: 4, partsPerMessage: 2)
    for start in [0, 10, 20] {
      outgoing.append(start..<start + 2)
      outgoing.append(100 + start..<103 + start)
    }
    #expect(outgoing.count == 3)
    #expect(try outgoing.send(of: Self.bytes, on: pair.first) == 3)
    #expect(try outgoing.send(from: 2, of: Self.bytes, on: pair.first) == 1)
    #expect(try outgoing.send(from: 3, of: Self.bytes, on: pair.first) == 0)
    var incoming = try IncomingMessages(capacity: 2, byteCount: 100)
    #expect(try incoming.receive(on: pair.second))
    #expect(incoming.count == 2)
    #expect(copy(incoming, 0) == [0, 1, 100, 101, 102])
    #expect(copy(incoming, 1) == [10, 11, 110, 111, 112])
    #expect(try incoming.receive(on: pair.second))
    #expect(copy(incoming, 1) == [20, 21, 120, 121, 122])
    #expect(try !incoming.receive(on: pair.second))
    #expect(incoming.count == 0)
  }

  @Test("parts of an array are the next bytes of a stream")
  func stream() throws {
    let pair = try Socket.pair(.stream)
    var outgoing = OutgoingMessages(messageCount: 2)
    outgoing.append(5..<7)
    outgoing.append(1..<2)
    #expect(try outgoing.sendAsStream(of: Self.bytes, on: pair.first) == 3)
    outgoing.removeAll()
    #expect(try outgoing.sendAsStream(of: Self.bytes, on: pair.first) == 0)
    var bytes = [UInt8](repeating: 0, count: 9)
    #expect(try pair.second.receive(into: &bytes, at: 0..<9) == 3)
    #expect(bytes.prefix(3) == [5, 6, 1])
  }

  @Test("a message that is too long is known by it, and the next one is whole")
  func truncation() throws {
    let pair = try Socket.pair(.datagram)
    var outgoing = OutgoingMessages(messageCount: 2)
    outgoing.append(0..<101)
    outgoing.append(0..<100)
    #expect(try outgoing.send(of: Self.bytes, on: pair.first) == 2)
    var incoming = try IncomingMessages(capacity: 8, byteCount: 100)
    #expect(try incoming.receive(on: pair.second))
    #expect(incoming.isTruncated(0) && incoming.byteCount(0) == 100)
    #expect(!incoming.isTruncated(1) && incoming.byteCount(1) == 100)
    #expect(incoming.vlanTag(0) == nil)
  }

  @Test("a full socket takes what it has room for, then nothing; one without peer refuses")
  func full() throws {
    let pair = try Socket.pair(.datagram)
    var outgoing = OutgoingMessages(messageCount: 64)
    for _ in 0..<64 { outgoing.append(0..<1) }
    var sent = 0
    while let count = try outgoing.send(of: Self.bytes, on: pair.first) { sent += count }
    #expect(sent > 0)
    func halfOfPair() throws(LinuxError) -> FileDescriptor { try Socket.pair(.datagram).first.descriptor.duplicate() }
    let alone = Socket(owning: try halfOfPair())
    let refused = failure { () throws(LinuxError) in _ = try outgoing.send(of: Self.bytes, on: alone) }
    #expect(refused?.number == ECONNREFUSED)
  }
}

@Suite("Byte moves") struct ByteMoveTests {
  @Test("bytes are copied between arrays, and within one where places overlap")
  func copies() {
    var bytes: [UInt8] = [0, 1, 2, 3, 4, 5]
    bytes.copyWithin(2..<6, to: 0)
    #expect(bytes == [2, 3, 4, 5, 4, 5])
    bytes.copyWithin(0..<4, to: 1)
    #expect(bytes == [2, 2, 3, 4, 5, 5])
    bytes.copy(1..<3, of: [7, 8, 9], to: 4)
    #expect(bytes == [2, 2, 3, 4, 8, 9])
    bytes.copy(0..<0, of: [], to: 6)
    #expect(bytes.count == 6)
  }

  @Test("a kernel's release is read as far as it has numbers", arguments: [("6.1.0-13-amd64", 6, 1), ("5.15", 5, 15)])
  func release(text: String, major: Int, minor: Int) {
    #expect(KernelVersion(release: text) == KernelVersion(major, minor))
    #expect(KernelVersion(release: "rolling") == nil)
    #expect(KernelVersion(5, 19) < KernelVersion(6, 2) && KernelVersion.current > KernelVersion(4, 0))
  }
}
