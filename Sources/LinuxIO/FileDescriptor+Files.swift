import CLinux
import Glibc

extension FileDescriptor {
  /// What a file is opened for.
  public enum Access: Sendable {
    case reading, writing, readingAndWriting
  }

  /// What it was opened for.
  public var access: Access {
    get throws(LinuxError) {
      let number = rawValue
      switch try retrying("fcntl(F_GETFL)", { fcntl(number, F_GETFL) }) & O_ACCMODE {
      case O_RDONLY: return .reading
      case O_WRONLY: return .writing
      default: return .readingAndWriting
      }
    }
  }

  /// What happens when there is no file, or one already.
  public enum Creation: Sendable {
    /// Only a file that exists is opened.
    case never
    /// A file that exists is opened as it is.
    case ifMissing
    /// A file that exists is emptied.
    case emptied
    /// A file that exists is the error `EEXIST`.
    case always
  }

  /// Opens the file at `path`. One that is created can be read and written by its owner alone.
  /// - Parameters:
  ///   - unbuffered: goes past the page cache (`O_DIRECT`): places, lengths and memory must be multiples of the
  ///     medium's block, or calls fail with `EINVAL`.
  ///   - waits: whether a named pipe is opened only once somebody has its other end, and calls wait for a device.
  public static func open(
    _ path: String, for access: Access = .reading, creating creation: Creation = .never, unbuffered: Bool = false,
    waits: Bool = true
  ) throws(LinuxError) -> FileDescriptor {
    let manner = (unbuffered ? Int32(CLINUX_O_DIRECT) : 0) | (waits ? 0 : O_NONBLOCK)
    let flags = access.flags | creation.flags | O_CLOEXEC | manner
    return FileDescriptor(owning: try retrying("open", on: path) { unsafe Glibc.open(path, flags, 0o600) })
  }

  /// Waits until what has been written is on the disk, with what is needed to read it back.
  public func synchronize() throws(LinuxError) {
    let number = rawValue
    _ = try retrying("fdatasync") { fdatasync(number) }
  }

  /// The two ends of a pipe; each can be let go of by itself.
  @frozen public struct Pipe: ~Copyable, Sendable {
    public let reading: FileDescriptor
    public let writing: FileDescriptor
  }

  /// Makes a pipe.
  public static func pipe() throws(LinuxError) -> Pipe {
    var numbers: (Int32, Int32) = (-1, -1)
    _ = try retrying("pipe2") {
      unsafe withUnsafeMutableBytes(of: &numbers) { (buffer) in
        unsafe pipe2(buffer.assumingMemoryBound(to: Int32.self).baseAddress, O_CLOEXEC)
      }
    }
    return Pipe(reading: FileDescriptor(owning: numbers.0), writing: FileDescriptor(owning: numbers.1))
  }
}

extension FileDescriptor.Access {
  fileprivate var flags: Int32 {
    switch self {
    case .reading: O_RDONLY
    case .writing: O_WRONLY
    case .readingAndWriting: O_RDWR
    }
  }
}

extension FileDescriptor.Creation {
  fileprivate var flags: Int32 {
    switch self {
    case .never: 0
    case .ifMissing: O_CREAT
    case .emptied: O_CREAT | O_TRUNC
    case .always: O_CREAT | O_EXCL
    }
  }
}

extension FileDescriptor {
  /// The full path of a file that exists, without links and dots (`realpath`).
  public static func fullPath(of path: String) throws(LinuxError) -> String {
    guard let found = unsafe realpath(path, nil) else { throw LinuxError(call: "realpath", subject: path) }
    defer { unsafe free(found) }
    return unsafe String(cString: found)
  }
}
