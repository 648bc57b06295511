import LinuxIO

/// Who may use an image at the same time, told as QEMU and its tools tell it, so that all respect each other.
///
/// Byte 100 + n is locked by those who need permission n, byte 200 + n by those who let nobody else have it; both as
/// shared locks, so that an open file sees others' and not its own. (QEMU `block/file-posix.c`.)
struct ImageLock {
  private enum Permission: Int {
    case consistentRead = 0
    case write = 1
    case resize = 3
  }

  private static let needed = 100
  private static let denied = 200

  /// Whether the image is going to be written.
  let isWriter: Bool

  private var permissions: [Permission] {
    isWriter ? [.consistentRead, .write, .resize] : [.consistentRead]
  }

  private var withheld: [Permission] { [.write, .resize] }

  /// - Returns: false, with nothing locked, when another user is in the way.
  func acquire(_ file: borrowing FileDescriptor) throws(LinuxError) -> Bool {
    // Locked first and looked round afterwards: of two who come together both may fail, and never both succeed.
    for place in places { _ = try file.setLock(.shared, at: place) }
    if try isContested(file) {
      try release(file)
      return false
    }
    return true
  }

  func release(_ file: borrowing FileDescriptor) throws(LinuxError) {
    for place in places { _ = try file.setLock(nil, at: place) }
  }

  private var places: [Int] {
    permissions.map { Self.needed + $0.rawValue } + withheld.map { Self.denied + $0.rawValue }
  }

  private func isContested(_ file: borrowing FileDescriptor) throws(LinuxError) -> Bool {
    for permission in permissions where try file.isLockedByOthers(at: Self.denied + permission.rawValue) { return true }
    for permission in withheld where try file.isLockedByOthers(at: Self.needed + permission.rawValue) { return true }
    return false
  }
}
