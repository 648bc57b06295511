import CLinux
import Glibc

/// Advisory locks of single bytes, which belong to the open file and go when it is closed (`F_OFD_SETLK`).
///
/// The bytes need not exist. Nobody is kept from reading or writing: locks mean what all parties agree on.
extension FileDescriptor {
  /// How a byte can be locked.
  public enum Lock: Sendable {
    /// Any number of open files may hold it so.
    case shared
    /// Nobody else may hold it in any way.
    case exclusive
  }

  /// Locks a byte, or unlocks it with nil.
  /// - Returns: false when somebody else's lock is in the way.
  public func setLock(_ lock: Lock?, at offset: Int) throws(LinuxError) -> Bool {
    var request = Self.request(lock, at: offset)
    let number = rawValue
    do throws(LinuxError) {
      _ = try retrying("fcntl(F_OFD_SETLK)") { unsafe fcntl(number, Int32(CLINUX_F_OFD_SETLK), &request) }
      return true
    } catch {
      guard error.number == EAGAIN || error.number == EACCES else { throw error }
      return false
    }
  }

  /// Whether somebody else holds a lock of any kind at a byte.
  public func isLockedByOthers(at offset: Int) throws(LinuxError) -> Bool {
    var request = Self.request(.exclusive, at: offset)
    let number = rawValue
    _ = try retrying("fcntl(F_OFD_GETLK)") { unsafe fcntl(number, Int32(CLINUX_F_OFD_GETLK), &request) }
    return request.l_type != Int16(F_UNLCK)
  }

  private static func request(_ lock: Lock?, at offset: Int) -> flock {
    let type =
      switch lock {
      case .shared: F_RDLCK
      case .exclusive: F_WRLCK
      case nil: F_UNLCK
      }
    return flock(l_type: Int16(type), l_whence: Int16(SEEK_SET), l_start: offset, l_len: 1, l_pid: 0)
  }
}
