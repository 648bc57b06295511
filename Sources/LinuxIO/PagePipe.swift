import CLinux
import Glibc

/// Takes memory into a unix socket without a copy: its pages go through a pipe into the socket, whose peer reads them where
/// they are.
struct PagePipe: ~Copyable, Sendable {
  /// What a pipe may hold unless the machine says otherwise (`fs.pipe-max-size`).
  private static let wantedByteCount: Int32 = 1 << 20

  private let pipe: FileDescriptor.Pipe
  /// The bytes in the pipe.
  private var heldByteCount = 0

  /// From now on nobody's calls on the socket wait: this kind of call cannot be told by itself not to. Where the process may
  /// not make it at all, as in some sandboxes, that is thrown, and the socket is as it was.
  init(into socket: borrowing FileDescriptor) throws(LinuxError) {
    let pipe = try FileDescriptor.pipe()
    let (reading, writing, number) = (pipe.reading.rawValue, pipe.writing.rawValue, socket.rawValue)
    var nothing = unsafe iovec()
    _ = try retrying("vmsplice") { unsafe vmsplice(writing, &nothing, 0, 0) }
    _ = try retrying("splice") { splice(reading, nil, number, nil, 0, 0) }
    // A smaller one serves as well, with more calls.
    _ = fcntl(writing, Int32(CLINUX_F_SETPIPE_SZ), Self.wantedByteCount)
    try socket.setBlocking(false)
    self.pipe = pipe
  }

  /// Sends some of the bytes; all that were not taken come again in the next call. A peer that is gone raises a signal.
  /// - Returns: what the last call has returned, with its `errno`.
  @unsafe mutating func send(_ elements: UnsafeMutablePointer<iovec>, _ count: Int, into socket: Int32) -> Int {
    if heldByteCount == 0 {
      let taken = unsafe vmsplice(pipe.writing.rawValue, elements, count, UInt32(CLINUX_SPLICE_F_NONBLOCK))
      guard taken > 0 else { return taken }
      heldByteCount = taken
    }
    let sent = splice(pipe.reading.rawValue, nil, socket, nil, heldByteCount, UInt32(CLINUX_SPLICE_F_NONBLOCK))
    if sent > 0 { heldByteCount -= sent }
    return sent
  }

  /// What the socket holds that the peer has not read, in bytes and the kernel's own; 0 when the peer is gone.
  static func unreadByteCount(of socket: Int32) throws(LinuxError) -> Int32 {
    var count: Int32 = 0
    _ = try retrying("ioctl(SIOCOUTQ)") { unsafe ioctl(socket, UInt(TIOCOUTQ), &count) }
    return count
  }
}
