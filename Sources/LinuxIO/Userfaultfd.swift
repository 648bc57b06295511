import CLinux
import Glibc

/// A descriptor through which another process provides pages of this process's memory when they are first touched.
///
/// Whoever touches a page that is not there waits until it has been provided; so does a system call that is given it.
public struct Userfaultfd: ~Copyable, Sendable {
  /// The open descriptor, to send to the one who provides pages. It does not block.
  public let descriptor: FileDescriptor
  private let features: UInt64

  /// Makes one and agrees with the kernel on its interface.
  ///
  /// `EPERM` is thrown where only the superuser may have one that system calls wait for too.
  public init() throws(LinuxError) {
    let flags = Int32(O_CLOEXEC | O_NONBLOCK)
    let opened = FileDescriptor(
      owning: Int32(try retrying("userfaultfd") { clinux_userfaultfd(Int(CLINUX_SYS_USERFAULTFD), flags) }))
    features = try Self.agree(opened.rawValue)
    descriptor = opened
  }

  /// - Returns: what the kernel can do.
  private static func agree(_ number: Int32) throws(LinuxError) -> UInt64 {
    var interface = uffdio_api(api: 0xaa, features: 0, ioctls: 0)
    _ = try retrying("ioctl(UFFDIO_API)") { unsafe ioctl(number, UInt(CLINUX_UFFDIO_API), &interface) }
    return interface.features
  }

  /// Whether this process may have one, for memory that is shared through files too.
  public static var isAvailable: Bool {
    do throws(LinuxError) {
      return try Userfaultfd().features & sharedMemory == sharedMemory
    } catch {
      return false
    }
  }

  /// Leaves pages that are missing from now on to whoever reads the descriptor.
  ///
  /// - Parameters:
  ///   - offset: in bytes, a multiple of the page size.
  ///   - byteCount: a multiple of the page size.
  public func register(_ mapping: Mapping, at offset: Int, byteCount: Int) throws(LinuxError) {
    precondition(offset >= 0 && byteCount >= 0 && byteCount <= mapping.byteCount - offset)
    let number = descriptor.rawValue
    let start = unsafe UInt64(UInt(bitPattern: mapping.base + offset))
    var request = uffdio_register(
      range: uffdio_range(start: start, len: UInt64(byteCount)), mode: Self.missingPages, ioctls: 0)
    _ = try retrying("ioctl(UFFDIO_REGISTER)") { unsafe ioctl(number, UInt(CLINUX_UFFDIO_REGISTER), &request) }
  }

  /// `UFFD_FEATURE_MISSING_HUGETLBFS` and `UFFD_FEATURE_MISSING_SHMEM`
  private static var sharedMemory: UInt64 { 1 << 4 | 1 << 5 }
  /// `UFFDIO_REGISTER_MODE_MISSING`
  private static var missingPages: UInt64 { 1 }
}
