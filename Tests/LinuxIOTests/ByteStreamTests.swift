import Glibc
import LinuxIO
import Testing

@Suite("Byte stream") struct ByteStreamTests {
  private let patience = Duration.seconds(20)

  @Test("what one direction lacks is an end or a broken pipe")
  func oneWay() throws {
    let pipe = try FileDescriptor.pipe()
    let reading = try ByteStream(input: pipe.reading, output: nil)
    let writing = try ByteStream(input: nil, output: pipe.writing)
    try writing.send([1, 2, 3], within: patience)
    try writing.synchronize()
    writing.endOutput()
    let broken = LinuxError(call: "writev", number: EPIPE)
    #expect(throws: broken) { try writing.send([4], within: patience) }
    #expect(throws: broken) { try reading.send([4], within: patience) }
    #expect(try writing.receive(exactly: 1, within: patience) == nil)
    #expect(try reading.receive(exactly: 3, within: patience) == [1, 2, 3])
    #expect(try reading.receive(exactly: 1, within: patience) == nil)
  }

  @Test("a socket is not made not to wait for others who share it")
  func shared() throws {
    let pair = try UnixSocket.pair()
    let number = try pair.first.descriptor.duplicate()
    let stream = try ByteStream(Socket(owning: number))
    #expect(fcntl(pair.first.descriptor.rawValue, F_GETFL) & O_NONBLOCK == 0)
    let error = #expect(throws: LinuxError.self) { _ = try stream.receive(exactly: 1, within: .milliseconds(5)) }
    #expect(error?.isTimeOut == true)
    let full = #expect(throws: LinuxError.self) {
      try stream.send([UInt8](repeating: 0, count: 32 << 20), within: .milliseconds(5))
    }
    #expect(full?.isTimeOut == true)
  }

  @Test("a stream that never waits is cancelled too")
  func busy() throws {
    let cancellation = try Cancellation()
    let zeros = try ByteStream(
      input: .open("/dev/zero"), output: .open("/dev/null", for: .writing), unless: cancellation)
    #expect(try zeros.receive(exactly: 3, within: patience) == [0, 0, 0])
    try zeros.send([1], within: patience)
    cancellation.cancel()
    let error = #expect(throws: LinuxError.self) { _ = try zeros.receive(exactly: 3, within: patience) }
    #expect(error?.isCancellation == true)
    #expect(throws: LinuxError.self) { try zeros.send([1], within: patience) }
  }

  @Test("a standard stream that is taken over leaves /dev/null in its place")
  func inherited() throws {
    let before = try FileDescriptor(owning: dup(0)).status.identity
    let moved = try FileDescriptor.inherited(0)
    defer { dup2(moved.rawValue, 0) }
    #expect(moved.rawValue > 2)
    #expect(try moved.status.identity == before)
    #expect(try FileDescriptor(owning: dup(0)).status.identity == FileDescriptor.open("/dev/null").status.identity)
  }

  @Test("the end of a child is waited for as long as is asked, and not when that is cancelled")
  func child() throws {
    let child = try ChildProcess("/bin/sleep", ["1000"])
    #expect(try child.waitUntilExit(within: .milliseconds(5)) == nil)
    let cancellation = try Cancellation()
    cancellation.cancel()
    let error = #expect(throws: LinuxError.self) { _ = try child.waitUntilExit(within: patience, unless: cancellation) }
    #expect(error?.isCancellation == true)
    child.kill(SIGTERM)
    #expect(try child.waitUntilExit(within: patience) == .signal(SIGTERM))
    #expect(try child.waitUntilExit(within: .zero) == .signal(SIGTERM))
  }
}

@Suite("LinuxIO: cancellation") struct CancellationTests {
  @Test("what has happened cannot be prevented, and what was prevented does not happen")
  func expires() throws {
    let (open, over) = (try Cancellation(), try Cancellation())
    open.cancel()
    #expect(!open.expire() && open.isCancelled)
    #expect(over.expire() && over.expire())
    over.cancel()
    #expect(!over.isCancelled)
    try over.wait(.zero)
  }
}
