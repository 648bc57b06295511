import Foundation
import LinuxIO
import Testing

@testable import VirtioBlk

/// A directory for one test, gone with it.
final class Scratch: Sendable {
  let path: String

  init() throws {
    let base = FileManager.default.fileExists(atPath: "/dev/shm") ? "/dev/shm" : NSTemporaryDirectory()
    path = base + "/qcow2-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit {
    do { try FileManager.default.removeItem(atPath: path) } catch { print("\(path) is left: \(error)") }
  }

  func file(_ name: String) -> String { path + "/" + name }

  func bytes(_ name: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: file(name)))) }

  func allocatedByteCount(_ name: String) throws -> Int {
    try FileDescriptor.open(file(name)).status.allocatedByteCount
  }

  func put(_ bytes: [UInt8], _ name: String) throws { try Data(bytes).write(to: URL(fileURLWithPath: file(name))) }
}

/// QEMU's tools, which know the format better than any test of ours.
enum QemuTools {
  static let image = find("qemu-img")
  static let io = find("qemu-io")
  static let missing: Comment = "qemu-img and qemu-io are not installed: what they think of our images is NOT TESTED"
  static var arePresent: Bool { image != nil && io != nil }

  private static func find(_ name: String) -> String? {
    let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin"
    let places = path.split(separator: ":").map { $0 + "/" + name }
    return places.first { FileManager.default.isExecutableFile(atPath: $0) }
  }

  @discardableResult
  static func run(_ tool: String?, _ arguments: [String], allowing ends: [ChildProcess.End] = [.exit(0)]) throws
    -> String
  {
    let outcome = try ChildProcess.run(try #require(tool), arguments)
    let text = String(decoding: outcome.output, as: UTF8.self)
    try #require(ends.contains(outcome.end), "\(tool ?? "") \(arguments) \(outcome.end): \(text)")
    return text
  }

  @discardableResult
  static func image(_ arguments: String...) throws -> String { try run(image, arguments) }

  /// Writes with `qemu-io`: commands such as `write -P 1 0 64k`.
  static func io(_ path: String, _ commands: String...) throws {
    try run(io, ["-f", "qcow2"] + commands.flatMap { ["-c", $0] } + [path])
  }

  /// Requires that an image is in order; leaked clusters are allowed if asked for.
  static func check(_ path: String, leaks: Bool = false) throws {
    try run(image, ["check", "-f", "qcow2", path], allowing: leaks ? [.exit(0), .exit(3)] : [.exit(0)])
  }

  /// The disk's bytes as QEMU sees them.
  static func contents(_ path: String, in scratch: Scratch) throws -> [UInt8] {
    try image("convert", "-f", "qcow2", "-O", "raw", path, scratch.file("contents.raw"))
    return try scratch.bytes("contents.raw")
  }
}

extension StoreProbe {
  /// All bytes of the store.
  func contents() throws -> [UInt8] {
    var bytes: [UInt8] = []
    while UInt64(bytes.count) < store.byteCount {
      bytes += try read(Int(min(1 << 20, store.byteCount - UInt64(bytes.count))), at: UInt64(bytes.count))
    }
    return bytes
  }
}
