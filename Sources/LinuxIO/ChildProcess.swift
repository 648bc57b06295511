import CLinux
import Glibc

/// A program that this one has started, and its end.
///
/// It starts with no signal blocked or ignored, and with none of this program's descriptors but its standard streams.
/// A child that is let go of before it has ended is killed.
///
/// Foundation's `Process` is no match: of two threads that each wait for a process of their own, both may wait for ever.
public final class ChildProcess: Sendable {
  /// What a standard stream of the child is.
  public enum Stream: Equatable, Sendable {
    /// The same as this program's.
    case inherited
    /// `/dev/null`
    case null
    /// An open descriptor, which the child gets its own of.
    case descriptor(Int32)
  }

  /// The standard streams of a child.
  public struct Streams: Equatable, Sendable {
    public var input: Stream
    public var output: Stream
    public var error: Stream

    public init(input: Stream = .null, output: Stream = .inherited, error: Stream = .inherited) {
      self.input = input
      self.output = output
      self.error = error
    }
  }

  /// How a child has ended.
  public enum End: Equatable, Sendable {
    /// By itself, with this status; 0 means that it has done what it was to do.
    case exit(Int32)
    /// By this signal.
    case signal(Int32)
    /// In a way that somebody else has heard of: another wait in this program, or the kernel, because the program ignores
    /// `SIGCHLD`.
    case unknown
  }

  /// The number that the system knows the process by, until its end has been heard of.
  public let identifier: Int32
  private let end = Monitor<End?>(nil)

  /// Starts a program.
  /// - Parameters:
  ///   - path: where the program is.
  ///   - arguments: those after its name.
  ///   - environment: its variables; this program's, when nil.
  ///   - directory: where it runs; where this program does, when nil.
  ///   - hasOwnGroup: whether it is the first of a process group of its own, which a terminal's keys do not reach.
  public init(
    _ path: String, _ arguments: [String] = [], environment: [String: String]? = nil, directory: String? = nil,
    streams: Streams = Streams(), hasOwnGroup: Bool = false
  ) throws(LinuxError) {
    var actions = unsafe posix_spawn_file_actions_t()
    unsafe posix_spawn_file_actions_init(&actions)
    defer { unsafe posix_spawn_file_actions_destroy(&actions) }
    try unsafe Self.add(streams, directory, to: &actions)
    var attributes = posix_spawnattr_t()
    unsafe posix_spawnattr_init(&attributes)
    defer { unsafe posix_spawnattr_destroy(&attributes) }
    Self.set(&attributes, hasOwnGroup: hasOwnGroup)
    let variables = environment.map { $0.map { "\($0.key)=\($0.value)" } }
    var process: pid_t = 0
    let error = unsafe withStrings([path] + arguments) { (words) in
      unsafe withStrings(variables ?? []) {
        unsafe posix_spawn(&process, path, &actions, &attributes, words, variables == nil ? environ : $0)
      }
    }
    guard error == 0 else { throw LinuxError(call: "posix_spawn", subject: path, number: error) }
    identifier = process
  }

  deinit {
    kill(SIGKILL)
    waitUntilExit()
  }

  /// Whether the child has ended. Processes that it started may go on.
  public var hasExited: Bool {
    end.withLock { $0 != nil || hasEnd(waiting: false) }
  }

  /// Waits until the child has ended, for so long at most.
  /// - Returns: nil when the time was up first.
  public func waitUntilExit(within limit: Duration, unless cancellation: Cancellation? = nil) throws(LinuxError) -> End?
  {
    let process = identifier
    let number = try end.withLock { (end) throws(LinuxError) -> Int? in
      // The number is the child's only as long as its end has not been taken.
      guard end == nil else { return nil }
      return try retrying("pidfd_open") { clinux_pidfd_open(Int(CLINUX_SYS_PIDFD_OPEN), process, 0) }
    }
    if let number {
      let descriptor = FileDescriptor(owning: Int32(number))
      let deadline = Deadline(after: limit)
      guard try wait(for: POLLIN, on: descriptor.rawValue, until: deadline, unless: cancellation) else { return nil }
    }
    return waitUntilExit()
  }

  /// Waits until the child has ended.
  @discardableResult
  public func waitUntilExit() -> End {
    // The end is not taken yet, so that a signal can be sent meanwhile.
    if end.withLock({ $0 == nil }) { _ = hasEnd(waiting: true) }
    return end.withLock { (end) in
      let found = end ?? takeEnd()
      end = found
      return found
    }
  }

  /// Sends a signal to the child, unless its end has been waited for.
  /// - Parameter group: whether it goes to all processes of the child's own group, those that outlive it included.
  public func kill(_ signal: Int32, group: Bool = false) {
    end.withLock { (end) in
      // The number is the child's only as long as its end has not been taken.
      if end == nil { _ = Glibc.kill(group ? -identifier : identifier, signal) }
    }
  }
}

// MARK: - To its end

extension ChildProcess {
  /// What a program has written to its standard output, and how it has ended.
  public struct Outcome: Equatable, Sendable {
    public let output: [UInt8]
    public let end: End
  }

  /// Runs a program to its end, with nothing on its standard input.
  /// - Parameter error: where its standard error goes; with its output, when nil.
  public static func run(
    _ path: String, _ arguments: [String], error: Stream? = nil
  ) throws(LinuxError) -> Outcome {
    let pipe = try FileDescriptor.pipe()
    let writing = Stream.descriptor(pipe.writing.rawValue)
    let child = try ChildProcess(path, arguments, streams: Streams(output: writing, error: error ?? writing))
    // The output ends once nobody can write it any more.
    _ = consume pipe.writing
    var output: [UInt8] = []
    while true {
      let bytes = try pipe.reading.readBytes(upTo: 1 << 16)
      if bytes.isEmpty { return Outcome(output: output, end: child.waitUntilExit()) }
      output += bytes
    }
  }
}

// MARK: - The end

extension ChildProcess {
  /// Whether there is an end to be taken.
  private func hasEnd(waiting: Bool) -> Bool {
    var information = unsafe siginfo_t()
    let options = WEXITED | WNOWAIT | (waiting ? 0 : WNOHANG)
    while unsafe waitid(P_PID, id_t(identifier), &information, options) != 0 {
      // Somebody else has taken it.
      if errno != EINTR { return true }
    }
    return unsafe information.si_signo != 0
  }

  private func takeEnd() -> End {
    var status: Int32 = 0
    while unsafe waitpid(identifier, &status, 0) < 0 {
      if errno != EINTR { return .unknown }
    }
    return status & 0x7F == 0 ? .exit(status >> 8 & 0xFF) : .signal(status & 0x7F)
  }
}

extension ChildProcess.End: CustomStringConvertible {
  public var description: String {
    switch self {
    case .exit(let status): "exited with status \(status)"
    case .signal(let number): "was ended by signal \(number)"
    case .unknown: "has ended, nobody knows how"
    }
  }
}

// MARK: - The start

extension ChildProcess {
  @unsafe private static func add(
    _ streams: Streams, _ directory: String?, to actions: inout posix_spawn_file_actions_t
  ) throws(LinuxError) {
    for (number, stream) in [(0, streams.input), (1, streams.output), (2, streams.error)] as [(Int32, Stream)] {
      switch stream {
      case .inherited: break
      case .null: unsafe posix_spawn_file_actions_addopen(&actions, number, "/dev/null", O_RDWR, 0)
      case .descriptor(let source): unsafe posix_spawn_file_actions_adddup2(&actions, source, number)
      }
    }
    unsafe posix_spawn_file_actions_addclosefrom_np(&actions, 3)
    guard let directory else { return }
    let error = unsafe posix_spawn_file_actions_addchdir_np(&actions, directory)
    guard error == 0 else { throw LinuxError(call: "chdir", subject: directory, number: error) }
  }

  private static func set(_ attributes: inout posix_spawnattr_t, hasOwnGroup: Bool) {
    var signals = sigset_t()
    unsafe sigemptyset(&signals)
    unsafe posix_spawnattr_setsigmask(&attributes, &signals)
    unsafe sigfillset(&signals)
    unsafe posix_spawnattr_setsigdefault(&attributes, &signals)
    var flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF
    if hasOwnGroup { flags |= POSIX_SPAWN_SETPGROUP }
    unsafe posix_spawnattr_setflags(&attributes, Int16(flags))
  }
}

/// Lends texts as C has them: a list of pointers with nil at its end.
@unsafe private func withStrings<Result>(
  _ texts: [String], _ body: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> Result
) -> Result {
  let list = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>.allocate(capacity: texts.count + 1)
  defer {
    for index in texts.indices { unsafe free(list[index]) }
    unsafe list.deallocate()
  }
  for (index, text) in texts.enumerated() { unsafe (list + index).initialize(to: strdup(text)) }
  unsafe (list + texts.count).initialize(to: nil)
  return unsafe body(list)
}
