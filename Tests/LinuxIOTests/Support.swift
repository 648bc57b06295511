import Foundation
import Glibc
import LinuxIO

/// A directory of its own for a test that needs paths, removed with its value.
struct TemporaryDirectory: ~Copyable {
  let path: String

  init() throws {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent("linuxio-\(UUID().uuidString.prefix(8))")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    path = url.path
  }

  deinit {
    try? FileManager.default.removeItem(atPath: path)
  }
}

/// The error that the body throws, or nil; the macro `#expect(throws:)` loses the concrete type.
func failure(_ body: () throws(LinuxError) -> Void) -> LinuxError? {
  do {
    try body()
    return nil
  } catch {
    return error
  }
}

/// `#require` for values that cannot be copied.
func unwrap<Value: ~Copyable>(_ value: consuming Value?) throws -> Value {
  guard let value else { throw LinuxError(call: "unwrap", number: ENOENT) }
  return value
}

/// How many of this process's descriptors refer to the same socket.
func openCount(like descriptor: borrowing FileDescriptor) -> Int {
  var wanted = stat()
  unsafe fstat(descriptor.rawValue, &wanted)
  return (0..<Int32(1024)).count { (number) in
    var status = stat()
    return unsafe fstat(number, &status) == 0 && status.st_ino == wanted.st_ino && status.st_dev == wanted.st_dev
  }
}

/// Runs a body on so many threads at once, each with its index, to their ends.
func withThreads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) throws {
  guard count > 0 else { return }
  let last = count - 1
  let thread = try Thread(name: "test") { body(last) }
  try withThreads(last, body)
  thread.join()
}
