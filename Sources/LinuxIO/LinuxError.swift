import Glibc

/// A system call that failed: its name and the error number that it left.
public struct LinuxError: Error, Equatable, Sendable {
  /// The call's name as its manual page has it, such as `pwritev`.
  public let call: String
  /// The value of `errno`, such as `ENOSPC`.
  public let number: Int32

  public init(call: String, number: Int32) {
    self.call = call
    self.number = number
  }

  /// The error that the call just made on this thread has left in `errno`.
  @usableFromInline
  init(call: String) {
    self.init(call: call, number: errno)
  }
}

extension LinuxError: CustomStringConvertible {
  /// For people: `pwritev: No space left on device (error 28)`.
  public var description: String {
    guard let text = unsafe strerror(number) else { return "\(call): error \(number)" }
    return unsafe "\(call): \(String(cString: text)) (error \(number))"
  }
}

/// Runs a system call until no signal interrupts it, and turns its -1 into an error.
@inline(__always)
func retrying<Result: SignedInteger>(_ call: String, _ body: () -> Result) throws(LinuxError) -> Result {
  while true {
    let result = body()
    if result >= 0 { return result }
    if errno != EINTR { throw LinuxError(call: call) }
  }
}
