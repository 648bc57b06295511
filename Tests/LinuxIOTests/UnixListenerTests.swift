import Glibc
import LinuxIO
import Testing

@Suite("UnixListener") struct UnixListenerTests {
  @Test("a peer connects by path, and the file goes with the listener")
  func connect() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/s"
    do {
      let listener = try UnixListener(path: path)
      let client = try UnixSocket.connect(to: path)
      let server = try listener.accept()
      try client.send([42])
      #expect(try server.receive(exactly: 1)?.bytes == [42])
    }
    #expect(unsafe access(path, F_OK) != 0)
    #expect(
      failure { () throws(LinuxError) in _ = try UnixSocket.connect(to: path) }
        == LinuxError(call: "connect", subject: path, number: ENOENT))
  }

  @Test("a path in use is refused, and its listener does not notice")
  func inUse() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/s"
    let listener = try UnixListener(path: path)
    let error = failure { () throws(LinuxError) in _ = try UnixListener(path: path) }
    #expect(error == LinuxError(call: "bind", subject: path, number: EADDRINUSE))
    #expect(error?.description == "bind(\(path)): Address already in use (error 98)")
    var request = pollfd(fd: listener.descriptor.rawValue, events: Int16(POLLIN), revents: 0)
    #expect(unsafe poll(&request, 1, 0) == 0)
  }

  @Test("a socket file that nobody holds is replaced, any other file is not")
  func leftOver() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/s"
    let moved = directory.path + "/moved"
    do {
      let listener = try UnixListener(path: path)
      #expect(unsafe rename(path, moved) == 0)
      _ = consume listener
    }
    #expect(unsafe access(moved, F_OK) == 0)
    #expect(failure { () throws(LinuxError) in _ = try UnixListener(path: moved) } == nil)

    unsafe close(creat(path, 0o600))
    #expect(failure { () throws(LinuxError) in _ = try UnixListener(path: path) }?.number == EEXIST)
    #expect(unsafe access(path, F_OK) == 0)
  }

  @Test("a listener leaves a file alone that took its place")
  func replaced() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/s"
    do {
      let listener = try UnixListener(path: path)
      unsafe unlink(path)
      unsafe close(creat(path, 0o600))
      _ = consume listener
    }
    #expect(unsafe access(path, F_OK) == 0)
  }

  @Test("a path that no address can hold is refused", arguments: [("", EINVAL), ("a\0b", EINVAL)])
  func badPath(path: String, number: Int32) {
    #expect(failure { () throws(LinuxError) in _ = try UnixListener(path: path) }?.number == number)
  }

  @Test("a path of 107 bytes fits, one of 108 does not")
  func longPath() throws {
    let directory = try TemporaryDirectory()
    let longest = directory.path + "/" + String(repeating: "x", count: 107 - directory.path.utf8.count - 1)
    #expect(failure { () throws(LinuxError) in _ = try UnixListener(path: longest) } == nil)
    #expect(failure { () throws(LinuxError) in _ = try UnixListener(path: longest + "x") }?.number == ENAMETOOLONG)
  }
}
