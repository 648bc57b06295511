import CLinux
import Glibc

/// Files that live in memory and have no name: what guest memory is made of.
public enum MemoryFile {
  /// Makes a file of `byteCount` zero bytes that nobody, a peer included, can shrink or grow unless it `isResizable`.
  ///
  /// No memory is reserved: a page costs memory once it is touched.
  /// - Parameters:
  ///   - name: shown in `/proc/<pid>/maps`; at most 249 bytes.
  ///   - byteCount: a multiple of the page size, which is 2 MiB with `hugePages`.
  ///   - hugePages: takes the pages from the pool that the administrator has set aside.
  public static func create(
    name: String, byteCount: Int, hugePages: Bool = false, isResizable: Bool = false
  ) throws(LinuxError) -> FileDescriptor {
    var flags = CLINUX_MFD_CLOEXEC | CLINUX_MFD_ALLOW_SEALING
    if hugePages { flags |= CLINUX_MFD_HUGETLB | CLINUX_MFD_HUGE_2MB }
    let bits = UInt32(flags)
    let file = FileDescriptor(owning: try retrying("memfd_create") { unsafe memfd_create(name, bits) })
    try file.truncate(toByteCount: byteCount)
    guard !isResizable else { return file }
    let number = file.rawValue
    let seals = Int32(CLINUX_F_SEAL_SHRINK | CLINUX_F_SEAL_GROW)
    _ = try retrying("fcntl(F_ADD_SEALS)") { fcntl(number, Int32(CLINUX_F_ADD_SEALS), seals) }
    return file
  }
}

extension FileDescriptor {
  /// Sees to it that nobody can make the file shorter any more: that would take the memory from under those who map it,
  /// and their next access would be a signal.
  ///
  /// - Returns: whether that is so now. Only memory files can be sealed, by who may write them, unless their maker has
  ///   kept them from it.
  public func forbidShrinking() throws(LinuxError) -> Bool {
    let number = rawValue
    let seal = Int32(CLINUX_F_SEAL_SHRINK)
    do throws(LinuxError) {
      if try retrying("fcntl(F_GET_SEALS)", { fcntl(number, Int32(CLINUX_F_GET_SEALS)) }) & seal != 0 { return true }
      _ = try retrying("fcntl(F_ADD_SEALS)") { fcntl(number, Int32(CLINUX_F_ADD_SEALS), seal) }
      return true
    } catch {
      guard error.number == EINVAL || error.number == EPERM else { throw error }
      return false
    }
  }
}
