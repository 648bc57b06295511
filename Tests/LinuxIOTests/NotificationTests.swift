import Glibc
import LinuxIO
import Testing

private func isReadable(_ number: Int32) -> Bool {
  var request = pollfd(fd: number, events: Int16(POLLIN), revents: 0)
  return unsafe poll(&request, 1, 0) == 1
}

@Suite("Notifications") struct NotificationTests {
  @Test("signals before a drain count as one wake-up")
  func eventfd() throws {
    let event = try Eventfd()
    #expect(!isReadable(event.descriptor.rawValue))
    event.signal()
    event.signal()
    #expect(isReadable(event.descriptor.rawValue))
    #expect(event.drain() == 2)
    #expect(!isReadable(event.descriptor.rawValue))
    #expect(event.drain() == 0)
  }

  @Test("a peer's blocking eventfd is signalled and drained without waiting, even when its counter is full")
  func foreignEventfd() throws {
    let event = try Eventfd()
    try event.descriptor.setBlocking(true)
    let notification = try NotificationDescriptor(owning: event.descriptor.duplicate())
    #expect(try notification.drain())
    try notification.signal()
    #expect(event.drain() == 1)
    var nearlyFull = UInt64.max - 1
    #expect(unsafe write(event.descriptor.rawValue, &nearlyFull, 8) == 8)
    try notification.signal()
    #expect(try notification.drain())
    #expect(!isReadable(event.descriptor.rawValue))
  }

  @Test("a stream socket is emptied, and its end is told apart")
  func socket() throws {
    let pair = try UnixSocket.pair()
    let notification = try NotificationDescriptor(owning: pair.second.descriptor.duplicate())
    #expect(fcntl(notification.descriptor.rawValue, F_GETFL) & O_NONBLOCK == 0)
    try pair.first.send([UInt8](repeating: 1, count: 9000))
    #expect(try notification.drain())
    #expect(!isReadable(notification.descriptor.rawValue))
    try notification.signal()
    #expect(try pair.first.receive(exactly: 8)?.bytes == [1, 0, 0, 0, 0, 0, 0, 0])
    pair.first.shutDown()
    #expect(try !notification.drain())
  }

  @Test("a peer that never reads, or is gone, does not hurt")
  func deafPeers() throws {
    let pair = try UnixSocket.pair()
    let toSocket = try NotificationDescriptor(owning: pair.first.descriptor.duplicate())
    for _ in 0..<10_000 { try toSocket.signal() }
    pair.second.shutDown()
    try toSocket.signal()

    let ends = try FileDescriptor.pipe()
    let toPipe = try NotificationDescriptor(owning: ends.writing.duplicate())
    for _ in 0..<10_000 { try toPipe.signal() }
    let full = try NotificationDescriptor(owning: ends.reading.duplicate())
    #expect(try full.drain())
  }

  @Test("a pipe whose reader is gone raises no signal")
  func brokenPipe() throws {
    let ends = try FileDescriptor.pipe()
    let writing = try NotificationDescriptor(owning: ends.writing.duplicate())
    _ = consume ends
    try writing.signal()
    #expect(
      failure { () throws(LinuxError) in try writing.descriptor.writeAll([1, 2]) }
        == LinuxError(call: "write", number: EPIPE))
  }

  @Test("a file cannot notify")
  func file() throws {
    let file = try MemoryFile.create(name: "test", byteCount: 4096)
    #expect(
      failure { () throws(LinuxError) in _ = try NotificationDescriptor(owning: file.duplicate()) }?.number == EINVAL)
    #expect(openCount(like: file) == 1)
  }
}
