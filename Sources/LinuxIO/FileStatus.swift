import CLinux
import Glibc

/// What the kernel knows about an open file.
public struct FileStatus: Equatable, Sendable {
  /// What the descriptor refers to, as far as it matters to how one talks to it.
  public enum Kind: Equatable, Sendable {
    case regularFile, blockDevice, pipe, socket, other
  }

  /// Which file it is, whatever the descriptor: as long as it is open, no other has the same.
  public struct Identity: Hashable, Sendable {
    let device: UInt64
    let number: UInt64
  }

  public let kind: Kind
  public let identity: Identity
  /// The length in bytes, holes included; 0 for a block device.
  public let byteCount: Int
  /// The bytes that take up memory or disk space: of a memory file, what all who map it have touched.
  public let allocatedByteCount: Int
  /// The unit in which the file's memory is mapped and given back, in bytes.
  public let pageByteCount: Int
  /// The user who owns the file.
  let ownerID: UInt32
  /// Whether the file lives in huge pages.
  public let isHugePages: Bool
  /// Whether the file lives in memory, so that reading and writing it never wait for a disk.
  public let isInMemory: Bool

  /// Whether the kernel tells this process the truth about which of the file's pages are in memory (`Mapping.isInMemory`): as
  /// it now is, for a process may give up its user's rights.
  public var tellsPages: Bool { isInMemory && !isHugePages && ownerID == geteuid() && ownerID != Self.nobody }

  /// Who owns what is a user's of whom this process's namespace knows nothing (`overflowuid`, as every system leaves it).
  private static let nobody: UInt32 = 65534
}

extension FileDescriptor {
  /// Asks the kernel about the open file.
  public var status: FileStatus {
    get throws(LinuxError) {
      let number = rawValue
      var file = stat()
      _ = try retrying("fstat") { unsafe fstat(number, &file) }
      var system = statfs()
      _ = try retrying("fstatfs") { unsafe fstatfs(number, &system) }
      let magic = UInt64(truncatingIfNeeded: system.f_type)
      let isHugePages = magic == UInt64(CLINUX_HUGETLBFS_MAGIC)
      return FileStatus(
        kind: FileStatus.Kind(mode: file.st_mode),
        identity: FileStatus.Identity(device: UInt64(file.st_dev), number: UInt64(file.st_ino)),
        byteCount: file.st_size, allocatedByteCount: file.st_blocks * 512,
        pageByteCount: isHugePages ? system.f_bsize : sysconf(Int32(_SC_PAGESIZE)),
        ownerID: file.st_uid, isHugePages: isHugePages,
        isInMemory: isHugePages || magic == UInt64(CLINUX_TMPFS_MAGIC))
    }
  }
}

extension FileStatus.Kind {
  init(mode: mode_t) {
    switch mode & S_IFMT {
    case S_IFREG: self = .regularFile
    case S_IFBLK: self = .blockDevice
    case S_IFIFO: self = .pipe
    case S_IFSOCK: self = .socket
    default: self = .other
    }
  }
}
