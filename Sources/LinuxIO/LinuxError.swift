import Glibc

/// A system call that failed: its name, what it was about, and the error number that it left.
public struct LinuxError: Error, Equatable, Sendable {
  /// The call's name as its manual page has it, such as `pwritev`.
  public let call: String
  /// What the call was asked to work on, such as a path; empty when the name says all there is to say.
  public let subject: String
  /// The value of `errno`, such as `ENOSPC`.
  public let number: Int32

  public init(call: String, subject: String = "", number: Int32) {
    self.call = call
    self.subject = subject
    self.number = number
  }

  /// The error that the call just made on this thread has left in `errno`.
  @usableFromInline
  init(call: String, subject: String = "") {
    self.init(call: call, subject: subject, number: errno)
  }
}

extension LinuxError {
  /// Whether a time limit was over before the call was done (`ETIMEDOUT`).
  public var isTimeOut: Bool { number == ETIMEDOUT }

  /// Whether memory was asked for that cannot be had: by name, or as an address that nothing can be put behind.
  public var isLackOfMemory: Bool { number == ENOMEM || number == EFAULT || number == ENOSPC }
  /// Whether a `Cancellation` ended the call (`ECANCELED`).
  public var isCancellation: Bool { number == ECANCELED }

  /// Whether memory, place or length does not suit a file that goes past the page cache (`EINVAL`).
  public var isUnaligned: Bool { number == EINVAL }

  /// Whether a file that was to be new is there already (`EEXIST`).
  public var isFileThere: Bool { number == EEXIST }

  /// Whether there is no such file or folder (`ENOENT`).
  public var isFileMissing: Bool { number == ENOENT }

  /// Whether a process may not pin so much memory (`ENOMEM`, `EPERM`, `EAGAIN`).
  public var isBeyondPinLimit: Bool { [ENOMEM, EPERM, EAGAIN].contains(number) }

  /// Whether the file system or medium cannot do this (`EOPNOTSUPP`).
  public var isUnsupported: Bool { number == EOPNOTSUPP }

  /// Whether the peer of a pipe or connection is gone (`EPIPE`, `ECONNRESET`).
  public var isPeerGone: Bool { number == EPIPE || number == ECONNRESET }
}

extension LinuxError: CustomStringConvertible {
  /// For people: `pwritev: No space left on device (error 28)`, or `connect(/run/net.sock): …` with a subject.
  public var description: String {
    let name = subject.isEmpty ? call : "\(call)(\(subject))"
    guard let text = unsafe strerror(number) else { return "\(name): error \(number)" }
    return unsafe "\(name): \(String(cString: text)) (error \(number))"
  }
}

/// Runs a system call until no signal interrupts it, and turns its -1 into an error.
@inline(__always)
func retrying<Result: SignedInteger>(
  _ call: String, on subject: String = "", _ body: () -> Result
) throws(LinuxError) -> Result {
  while true {
    let result = body()
    if result >= 0 { return result }
    if errno != EINTR { throw LinuxError(call: call, subject: subject) }
  }
}
