import CLinux
import Glibc

/// A descriptor through which whoever reads it answers page faults of this process: pages that are touched for the first
/// time, or written while they are protected.
///
/// Whoever causes a fault waits until it has been answered; so does a system call that is given the page.
public struct Userfaultfd: ~Copyable, Sendable {
  /// What the kernel is asked for besides missing pages of anonymous memory; `UFFD_FEATURE_…` in userfaultfd(2).
  public struct Features: OptionSet, Sendable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// Missing pages of memory in files, huge pages or not.
    public static let missingInFiles = Features(rawValue: 1 << 4 | 1 << 5)
    /// Pages of memory in files that are there and not mapped yet.
    public static let unmappedInFiles = Features(rawValue: 1 << 9 | 1 << 10)
    /// Protection against writes, in files too, and of pages that are not there yet (Linux 6.4).
    public static let protection = Features(rawValue: 1 << 0 | 1 << 12 | 1 << 13)
    /// Protected pages are written without anybody's being asked, and the page map tells which were (Linux 6.7).
    public static let silentWrites = Features(rawValue: 1 << 15)
  }

  /// Which faults of a stretch of memory are reported; `UFFDIO_REGISTER_MODE_…` in ioctl_userfaultfd(2).
  public struct Faults: OptionSet, Sendable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// Pages that are not there.
    public static let missing = Faults(rawValue: 1 << 0)
    /// Writes to pages that are protected.
    public static let writes = Faults(rawValue: 1 << 1)
    /// Pages that the file has and that this process has not mapped yet.
    public static let unmapped = Faults(rawValue: 1 << 2)
  }

  /// The open descriptor, to watch for faults or to send to the one who answers them. It does not block.
  public let descriptor: FileDescriptor
  /// What the kernel can do, whether asked for or not.
  public let features: Features

  /// Makes one and agrees with the kernel on its interface.
  ///
  /// `EINVAL` is thrown where the kernel lacks a feature, and `EPERM` where only the superuser, or whoever may open
  /// `/dev/userfaultfd`, may have one that system calls wait for too.
  /// - Parameter isForSystemCalls: whether a system call that is given a page waits for an answer, as code does; if not it
  ///   fails with `EFAULT`, and everybody may have one.
  public init(_ wanted: Features = [], isForSystemCalls: Bool = true) throws(LinuxError) {
    let opened = FileDescriptor(owning: try Self.open(isForSystemCalls: isForSystemCalls))
    let number = opened.rawValue
    var interface = uffdio_api(api: 0xaa, features: wanted.rawValue, ioctls: 0)
    _ = try retrying("ioctl(UFFDIO_API)") { unsafe ioctl(number, UInt(CLINUX_UFFDIO_API), &interface) }
    features = Features(rawValue: interface.features)
    descriptor = opened
  }

  private static func open(isForSystemCalls: Bool) throws(LinuxError) -> Int32 {
    let flags = Int32(O_CLOEXEC | O_NONBLOCK) | (isForSystemCalls ? 0 : UFFD_USER_MODE_ONLY)
    do throws(LinuxError) {
      return Int32(try retrying("userfaultfd") { clinux_userfaultfd(Int(CLINUX_SYS_USERFAULTFD), flags) })
    } catch {
      guard error.number == EPERM, let device = try? FileDescriptor.open("/dev/userfaultfd") else { throw error }
      let number = device.rawValue
      return try retrying("ioctl(USERFAULTFD_IOC_NEW)") { ioctl(number, UInt(CLINUX_USERFAULTFD_IOC_NEW), flags) }
    }
  }

  /// Whether this process may have one, for memory that is shared through files too.
  public static var isAvailable: Bool { isAvailable(.missingInFiles) }

  /// Whether this process may have one with such features.
  public static func isAvailable(_ wanted: Features, isForSystemCalls: Bool = true) -> Bool {
    do throws(LinuxError) {
      _ = try Userfaultfd(wanted, isForSystemCalls: isForSystemCalls)
      return true
    } catch {
      return false
    }
  }

  /// Leaves faults from now on to whoever reads the descriptor.
  ///
  /// `EBUSY` is thrown for memory whose faults are another's already.
  /// - Parameters:
  ///   - offset: in bytes, a multiple of the page size.
  ///   - byteCount: a multiple of the page size.
  public func register(
    _ mapping: Mapping, at offset: Int, byteCount: Int, for faults: Faults = .missing
  ) throws(LinuxError) {
    let number = descriptor.rawValue
    let range = Self.range(mapping, offset, byteCount)
    var request = uffdio_register(range: range, mode: faults.rawValue, ioctls: 0)
    _ = try retrying("ioctl(UFFDIO_REGISTER)") { unsafe ioctl(number, UInt(CLINUX_UFFDIO_REGISTER), &request) }
  }

  /// Reports no more faults: memory is as it was before `register`, and whoever waits goes on.
  public func unregister(_ mapping: Mapping, at offset: Int, byteCount: Int) throws(LinuxError) {
    let number = descriptor.rawValue
    var range = Self.range(mapping, offset, byteCount)
    _ = try retrying("ioctl(UFFDIO_UNREGISTER)") { unsafe ioctl(number, UInt(CLINUX_UFFDIO_UNREGISTER), &range) }
    // The kernel wakes only those who miss a page.
    try wake(mapping, at: offset, byteCount: byteCount)
  }

  /// What requests say of memory; the caller has to know that it lies in the mapping.
  static func range(_ mapping: Mapping, _ offset: Int, _ byteCount: Int) -> uffdio_range {
    precondition(offset >= 0 && byteCount >= 0 && byteCount <= mapping.byteCount - offset)
    return uffdio_range(start: mapping.address(of: offset), len: UInt64(byteCount))
  }
}
