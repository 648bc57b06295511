import LinuxIO

/// A file that is read whole.
enum InputFile {
  /// - Parameters:
  ///   - path: `-` is standard input.
  ///   - most: how many bytes are read at most, and as many more as show that it is longer.
  static func bytes(of path: String, upTo most: Int) throws(LinuxError) -> [UInt8] {
    let file = path == "-" ? FileDescriptor(owning: 0) : try FileDescriptor.open(path)
    var bytes: [UInt8] = []
    do throws(LinuxError) {
      while bytes.count <= most {
        let piece = try file.readBytes(upTo: 1 << 20)
        if piece.isEmpty { break }
        bytes += piece
      }
    } catch {
      throw LinuxError(call: error.call, subject: path, number: error.number)
    }
    return bytes
  }

  /// How a regular file begins; nil for one that is not there or is empty.
  ///
  /// Throws `OutputTrouble.notAFile` for what is no regular file.
  static func beginning(of path: String) throws -> [UInt8]? {
    let file: FileDescriptor
    do throws(LinuxError) {
      // Without waiting, so that a pipe that nobody writes to is told from a file.
      file = try FileDescriptor.open(path, waits: false)
    } catch {
      if error.isFileMissing { return nil }
      throw error
    }
    guard try file.status.kind == .regularFile else { throw OutputTrouble.notAFile(path) }
    let bytes = try file.readBytes(upTo: 8)
    return bytes.isEmpty ? nil : bytes
  }
}

/// Why nothing is written to a path that an operator has named: a slip must not cost an image.
enum OutputTrouble: Error, CustomStringConvertible {
  case notAFile(String)
  /// A file of something else than what would be written.
  case holdsOther(String, than: String)

  var description: String {
    switch self {
    case .notAFile(let path): "\(path) is no file: give another path"
    case .holdsOther(let path, let kind):
      "\(path) holds something else than a \(kind) and is left as it is: give another path"
    }
  }
}
