import Foundation

/// The file systems of this machine, from `/proc/self/mounts`.
struct MountTable {
  struct Mount: Equatable {
    let directory: String
    let options: [String]
  }

  let mounts: [Mount]

  /// - Parameter text: a mount on each line: what, where, type, options.
  init(_ text: String) {
    mounts = text.split(separator: "\n").compactMap { line in
      let fields = line.split(separator: " ")
      guard fields.count >= 4 else { return nil }
      return Mount(
        directory: Self.unescaped(fields[1]), options: fields[3].split(separator: ",").map(String.init))
    }
  }

  /// What a path is on: the deepest mount above it, of several at one place the last.
  func mount(of path: String) -> Mount? {
    mounts.filter { path == $0.directory || path.hasPrefix($0.directory == "/" ? "/" : $0.directory + "/") }
      .reduce(nil) { best, mount in
        if let best, best.directory.utf8.count > mount.directory.utf8.count { return best }
        return mount
      }
  }

  /// Blanks and backslashes are written as three octal digits.
  private static func unescaped(_ field: Substring) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")].reduce(String(field)) { text, pair in
      text.replacingOccurrences(of: pair.0, with: pair.1)
    }
  }
}
