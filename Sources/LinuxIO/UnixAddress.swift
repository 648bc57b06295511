import Glibc

/// The address of a socket in the file system.
struct UnixAddress {
  private var address = sockaddr_un()

  /// `ENAMETOOLONG` is thrown for a path that the address cannot hold, `EINVAL` for one that no file can have.
  init(path: String) throws(LinuxError) {
    let bytes = Array(path.utf8)
    guard !bytes.isEmpty, !bytes.contains(0) else { throw LinuxError(call: "bind", subject: path, number: EINVAL) }
    guard bytes.count <= SocketAddress.largestPathByteCount else {
      throw LinuxError(call: "bind", subject: path, number: ENAMETOOLONG)
    }
    address.sun_family = sa_family_t(AF_UNIX)
    unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
  }

  /// Lends the address for one call, in the shape that system calls take.
  @unsafe func withSocketAddress(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
    unsafe withUnsafeBytes(of: address) { (buffer) in
      guard let base = buffer.baseAddress else { return -1 }
      return unsafe body(base.assumingMemoryBound(to: sockaddr.self), socklen_t(buffer.count))
    }
  }
}
