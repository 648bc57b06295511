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

func isOpen(_ number: Int32) -> Bool { fcntl(number, F_GETFD) >= 0 }
