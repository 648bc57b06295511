import Glibc
import LinuxIO
import Testing

@Suite("UnixSocket") struct UnixSocketTests {
  @Test("bytes and descriptors arrive together, and nothing of the next message is taken")
  func messages() throws {
    let pair = try UnixSocket.pair()
    let file = try MemoryFile.create(name: "test", byteCount: 4096)
    let other = try MemoryFile.create(name: "test", byteCount: 8192)
    try pair.first.send([1, 2, 3], descriptors: [file.rawValue, other.rawValue])
    try pair.first.send([4, 5])

    var message = try unwrap(try pair.second.receive(exactly: 3, maximumDescriptors: 8))
    #expect(message.bytes == [1, 2, 3])
    #expect(message.descriptors.count == 2)
    #expect(try message.descriptors.takeFirst()?.status.byteCount == 4096)
    #expect(try message.descriptors.takeFirst()?.status.byteCount == 8192)
    #expect(message.descriptors.isEmpty && message.descriptors.takeFirst() == nil)
    #expect(try pair.second.receive(exactly: 2)?.bytes == [4, 5])
  }

  @Test("a descriptor that came in is closed on exec, and with the list unless taken")
  func ownership() throws {
    let pair = try UnixSocket.pair()
    let sent = try MemoryFile.create(name: "test", byteCount: 0)
    try pair.first.send([0], descriptors: [sent.rawValue, sent.rawValue])
    var message = try unwrap(try pair.second.receive(exactly: 1, maximumDescriptors: 2))
    #expect(openCount(like: sent) == 3)
    let taken = try unwrap(message.descriptors.takeFirst())
    #expect(fcntl(taken.rawValue, F_GETFD) == FD_CLOEXEC)
    _ = consume message
    #expect(openCount(like: sent) == 2)
    _ = consume taken
    #expect(openCount(like: sent) == 1)
  }

  @Test("descriptors that the kernel would not pass are refused, not dropped")
  func badSends() throws {
    let pair = try UnixSocket.pair()
    let many = [Int32](repeating: pair.first.descriptor.rawValue, count: UnixSocket.largestDescriptorCount)
    #expect(
      failure { () throws(LinuxError) in try pair.first.send([], descriptors: [many[0]]) }
        == LinuxError(call: "sendmsg", number: EINVAL))
    #expect(
      failure { () throws(LinuxError) in try pair.first.send([1], descriptors: many + [many[0]]) }
        == LinuxError(call: "sendmsg", number: EINVAL))
    try pair.first.send([])
    try pair.first.send([1], descriptors: many)
    #expect(try pair.second.receive(exactly: 1, maximumDescriptors: .max)?.descriptors.count == many.count)
  }

  @Test("the end of the stream between messages is nil, within a message an error")
  func endOfStream() throws {
    let pair = try UnixSocket.pair()
    try pair.first.send([1, 2, 3, 4])
    pair.first.shutDown()
    #expect(try pair.second.receive(exactly: 3)?.bytes == [1, 2, 3])
    #expect(
      failure { () throws(LinuxError) in _ = try pair.second.receive(exactly: 3) }
        == LinuxError(call: "recvmsg", number: ECONNRESET))
    #expect(try pair.second.receive(exactly: 3) == nil)
  }

  @Test("more descriptors than allowed are an error and none stays open", arguments: [0, 1, 2])
  func tooManyDescriptors(maximum: Int) throws {
    let pair = try UnixSocket.pair()
    let sent = try MemoryFile.create(name: "test", byteCount: 0)
    try pair.first.send([1], descriptors: [sent.rawValue, sent.rawValue, sent.rawValue])
    #expect(
      failure { () throws(LinuxError) in _ = try pair.second.receive(exactly: 1, maximumDescriptors: maximum) }
        == LinuxError(call: "recvmsg", number: EMSGSIZE))
    #expect(openCount(like: sent) == 1)
  }

  @Test("descriptors in several parts of a message count together")
  func descriptorsInParts() throws {
    let pair = try UnixSocket.pair()
    try pair.first.send([1], descriptors: [1, 1])
    try pair.first.send([2], descriptors: [1])
    #expect(try pair.second.receive(exactly: 2, maximumDescriptors: 3)?.descriptors.count == 3)

    try pair.first.send([1], descriptors: [1, 1])
    try pair.first.send([2], descriptors: [1])
    #expect(
      failure { () throws(LinuxError) in _ = try pair.second.receive(exactly: 2, maximumDescriptors: 2) }?.number
        == EMSGSIZE)
  }

  @Test("a peer that stalls within a message, or does not read, costs no more than the limit")
  func timeLimits() throws {
    let pair = try UnixSocket.pair()
    try pair.first.send([1, 2])
    #expect(
      failure { () throws(LinuxError) in _ = try pair.second.receive(exactly: 3, within: .milliseconds(1)) }
        == LinuxError(call: "recvmsg", number: ETIMEDOUT))
    #expect(
      failure { () throws(LinuxError) in
        try pair.first.send([UInt8](repeating: 0, count: 16 << 20), within: .milliseconds(1))
      } == LinuxError(call: "sendmsg", number: ETIMEDOUT))
    let quiet = try UnixSocket.pair()
    #expect(try quiet.first.waitUntilReadable(within: .zero) == false)
  }

  @Test("sending to a peer that is gone is an error, not a signal")
  func brokenPipe() throws {
    let pair = try UnixSocket.pair()
    pair.second.shutDown()
    #expect(
      failure { () throws(LinuxError) in try pair.first.send([1]) } == LinuxError(call: "sendmsg", number: EPIPE))
  }

  @Test("a message larger than the socket's buffer goes through in parts")
  func largeMessage() throws {
    let pair = try UnixSocket.pair()
    let bytes = (0..<3 << 20).map { UInt8(truncatingIfNeeded: $0 / 7) }
    let socket = UnixSocket(owning: try pair.second.descriptor.duplicate())
    let sender = try Thread(name: "sender") {
      let failed = failure { () throws(LinuxError) in try socket.send(bytes) }
      #expect(failed == nil)
    }
    #expect(try pair.first.receive(exactly: bytes.count)?.bytes == bytes)
    sender.join()
  }
}
