import Glibc

extension FileDescriptor {
  /// Gives a regular file other contents, whole or not at all: they are on the disk under another name in the same folder
  /// before they take the file's place. Its permissions stay, and its owner where the kernel lets us; a link still leads
  /// to it. A file that is not there is made, for its owner alone.
  ///
  /// What is no regular file, such as a pipe or a device, is written to.
  public static func replaceContents(of path: String, with bytes: [UInt8]) throws(LinuxError) {
    var old = stat()
    guard unsafe stat(path, &old) == 0 else {
      guard errno == ENOENT else { throw LinuxError(call: "stat", subject: path) }
      return try putInPlace(of: path, bytes, nil)
    }
    if old.st_mode & S_IFMT == S_IFREG { return try putInPlace(of: fullPath(of: path), bytes, old) }
    // Without waiting, so that a pipe that nobody reads is an error.
    let file = try open(path, for: .writing, waits: false)
    try file.writeAll(bytes)
  }

  private static func putInPlace(of path: String, _ bytes: [UInt8], _ old: stat?) throws(LinuxError) {
    let temporary = "\(path).\(getpid()).new"
    let file = try open(temporary, for: .writing, creating: .always)
    do throws(LinuxError) {
      try file.writeAll(bytes)
      if let old {
        let number = file.rawValue
        // Only root may give files to others.
        _ = fchown(number, old.st_uid, old.st_gid)
        _ = try retrying("fchmod", on: temporary) { fchmod(number, old.st_mode & 0o7777) }
      }
      try file.synchronize()
      _ = try retrying("rename", on: path) { unsafe rename(temporary, path) }
    } catch {
      _ = unsafe unlink(temporary)
      throw error
    }
  }
}
