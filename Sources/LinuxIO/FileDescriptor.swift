import Glibc

/// An open file descriptor, closed when its owner lets go of it.
public struct FileDescriptor: ~Copyable, Sendable {
  /// The number that system calls know it by; valid while this value lives.
  public let rawValue: Int32

  /// Takes over a descriptor that nobody else will close.
  public init(owning rawValue: Int32) {
    self.rawValue = rawValue
  }

  /// Takes over a descriptor that this program was started with; `EBADF` is thrown when there is none of that number.
  ///
  /// A standard stream gets another number, and `/dev/null` takes its place: nothing that is opened or printed later
  /// comes upon it.
  public static func inherited(_ number: Int32) throws(LinuxError) -> FileDescriptor {
    let subject = String(number)
    guard number <= STDERR_FILENO else {
      _ = try retrying("fcntl(F_SETFD)", on: subject) { fcntl(number, F_SETFD, FD_CLOEXEC) }
      return FileDescriptor(owning: number)
    }
    let moved = FileDescriptor(
      owning: try retrying("fcntl(F_DUPFD_CLOEXEC)", on: subject) {
        fcntl(number, F_DUPFD_CLOEXEC, STDERR_FILENO + 1)
      })
    let null = try FileDescriptor.open("/dev/null", for: .readingAndWriting)
    _ = try retrying("dup2", on: subject) { dup2(null.rawValue, number) }
    return moved
  }

  /// Another descriptor for the same open file.
  public func duplicate() throws(LinuxError) -> FileDescriptor {
    let number = rawValue
    return FileDescriptor(owning: try retrying("fcntl(F_DUPFD_CLOEXEC)") { fcntl(number, F_DUPFD_CLOEXEC, 0) })
  }

  /// Hands the descriptor to whoever will close it now.
  public consuming func release() -> Int32 {
    let number = rawValue
    discard self
    return number
  }

  deinit {
    close(rawValue)
  }
}

extension FileDescriptor {
  /// Chooses whether calls wait when there is nothing to read or no room to write, or fail with `EAGAIN`.
  ///
  /// The choice belongs to the open file, so everybody who shares it sees it: duplicates, and the peer that sent it.
  public func setBlocking(_ isBlocking: Bool) throws(LinuxError) {
    let number = rawValue
    let flags = try retrying("fcntl(F_GETFL)") { fcntl(number, F_GETFL) }
    let wanted = isBlocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK
    guard wanted != flags else { return }
    _ = try retrying("fcntl(F_SETFL)") { fcntl(number, F_SETFL, wanted) }
  }
}
