import Glibc

extension FileDescriptor {
  /// Gives a regular file other contents, whole or not at all: they are on the disk under another name in the same folder
  /// before they take the file's place. Its permissions stay, and its owner where the kernel lets us; a link still leads
  /// to it, and one that leads nowhere is the error `ENOENT`. A file that is not there is made, for its owner alone.
  ///
  /// What is no regular file, such as a pipe or a device, is written to.
  public static func replaceContents(of path: String, with bytes: [UInt8]) throws(LinuxError) {
    var old = stat()
    guard unsafe stat(path, &old) == 0 else {
      guard errno == ENOENT else { throw LinuxError(call: "stat", subject: path) }
      // A link that leads nowhere would be gone.
      guard unsafe lstat(path, &old) != 0 else { throw LinuxError(call: "stat", subject: path, number: ENOENT) }
      return try putInPlace(of: path, bytes, nil)
    }
    if old.st_mode & S_IFMT == S_IFREG { return try putInPlace(of: fullPath(of: path), bytes, old) }
    // Without waiting, so that a pipe that nobody reads is an error.
    let file = try open(path, for: .writing, waits: false)
    try file.writeAll(bytes)
  }

  private static func putInPlace(of path: String, _ bytes: [UInt8], _ old: stat?) throws(LinuxError) {
    // No number of ours: where a process was killed, or in another container, one of the same number may have a file.
    let temporary = "\(path).\(String(UInt64.random(in: 0 ... .max), radix: 36)).new"
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
    try open(folder(of: path)).synchronize()
  }

  private static func folder(of path: String) -> String {
    path.lastIndex(of: "/").map { String(path[...$0]) } ?? "."
  }
}
