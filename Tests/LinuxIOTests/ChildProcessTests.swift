import Glibc
import LinuxIO
import Testing

@Suite("Child process") struct ChildProcessTests {
  private static let shell = "/bin/sh"

  /// What a script writes to its standard output.
  private func output(of script: String, directory: String? = nil, environment: [String: String]? = nil) throws
    -> String
  {
    let pipe = try FileDescriptor.pipe()
    let child = try ChildProcess(
      Self.shell, ["-c", script], environment: environment, directory: directory,
      streams: .init(output: .descriptor(pipe.writing.rawValue)))
    #expect(child.waitUntilExit() == .exit(0))
    return String(decoding: try pipe.reading.readBytes(upTo: 4096), as: UTF8.self)
  }

  @Test("it ends with a status or by a signal, and says the same every time")
  func ends() throws {
    let child = try ChildProcess(Self.shell, ["-c", "exit 7"])
    #expect(child.waitUntilExit() == .exit(7))
    #expect(child.waitUntilExit() == .exit(7))
    #expect(child.hasExited)
    #expect(try ChildProcess(Self.shell, ["-c", "kill -USR1 $$"]).waitUntilExit() == .signal(SIGUSR1))
  }

  @Test("an end that somebody else has taken is no success")
  func takenEnd() throws {
    let child = try ChildProcess(Self.shell, ["-c", "exit 3"])
    var status: Int32 = 0
    try #require(unsafe waitpid(child.identifier, &status, 0) == child.identifier)
    #expect(child.waitUntilExit() == .unknown)
  }

  @Test("a program that is not there is an error, not a child")
  func missing() {
    let error = LinuxError(call: "posix_spawn", subject: "/no/such", number: ENOENT)
    #expect(throws: error) { _ = try ChildProcess("/no/such") }
    #expect(throws: LinuxError.self) { _ = try ChildProcess(Self.shell, directory: "/no/such") }
  }

  @Test("streams, directory and variables are those asked for; other descriptors stay here")
  func surroundings() throws {
    #expect(try output(of: "pwd", directory: "/") == "/\n")
    #expect(try output(of: "echo $A-$B", environment: ["A": "1", "B": "two words"]) == "1-two words\n")
    let other = dup(0)
    defer { close(other) }
    #expect(try output(of: "cat; [ -e /proc/$$/fd/\(other) ] || echo gone") == "gone\n")
  }

  @Test("a child starts with no signal blocked or ignored")
  func signals() throws {
    var (mask, before) = (sigset_t(), sigset_t())
    _ = unsafe (sigemptyset(&mask), sigaddset(&mask, SIGUSR2), pthread_sigmask(SIG_BLOCK, &mask, &before))
    let child = try ChildProcess(Self.shell, ["-c", "kill -USR2 $$"])
    unsafe pthread_sigmask(SIG_SETMASK, &before, nil)
    #expect(child.waitUntilExit() == .signal(SIGUSR2))
  }

  @Test("one that is killed or let go of is gone, and a group with it")
  func killed() throws {
    let pipe = try FileDescriptor.pipe()
    let child = try ChildProcess(
      Self.shell, ["-c", "sleep 1000 & echo $!; wait"], streams: .init(output: .descriptor(pipe.writing.rawValue)),
      hasOwnGroup: true)
    let line = String(decoding: try pipe.reading.readBytes(upTo: 64), as: UTF8.self)
    #expect(Int32(line.dropLast()) != nil)
    #expect(!child.hasExited)
    #expect(getpgid(child.identifier) == child.identifier)
    child.kill(SIGKILL, group: true)
    #expect(child.waitUntilExit() == .signal(SIGKILL))
    var other: ChildProcess? = try ChildProcess("/bin/sleep", ["1000"])
    let identifier = try #require(other?.identifier)
    other = nil
    #expect(kill(identifier, 0) == -1 && errno == ESRCH)
  }

  @Test("a program's output is taken whole, with its errors or without")
  func outcome() throws {
    let script = "head -c 200000 /dev/zero; echo wrong >&2; exit 3"
    let both = try ChildProcess.run(Self.shell, ["-c", script])
    #expect(both.output.count == 200_006 && both.end == .exit(3))
    let one = try ChildProcess.run(Self.shell, ["-c", script], error: .null)
    #expect(one.output == [UInt8](repeating: 0, count: 200_000))
  }

  @Test("threads that wait for children of their own all hear of their ends")
  func many() throws {
    try withThreads(4) { (index) in
      for _ in 0..<25 {
        let child = try? ChildProcess(Self.shell, ["-c", "exit \(index)"])
        #expect(child?.waitUntilExit() == .exit(Int32(index)))
      }
    }
  }
}
