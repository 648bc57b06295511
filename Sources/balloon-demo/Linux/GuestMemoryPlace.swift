import Foundation
import Options

/// Where User-Mode Linux makes the file that is its memory.
enum GuestMemoryPlace {
  /// The first directory that has room and lets memory be executed. Memory comes before disks.
  static func find(for byteCount: UInt64) throws -> String {
    let table = MountTable((try? String(contentsOfFile: "/proc/self/mounts", encoding: .utf8)) ?? "")
    var refusals: [String] = []
    for directory in ["/dev/shm", FileManager.default.temporaryDirectory.path, "/var/tmp"] {
      guard let refusal = refusal(of: directory, on: table, byteCount) else { return directory }
      refusals.append("\(directory) \(refusal)")
    }
    throw LinuxDemoError.noPlace(byteCount: byteCount, refusals: refusals)
  }

  private static func refusal(of directory: String, on table: MountTable, _ byteCount: UInt64) -> String? {
    guard FileManager.default.isWritableFile(atPath: directory) else { return "cannot be written to" }
    // A directory may be a symbolic link, and is then on another file system than its name says.
    let path = URL(fileURLWithPath: directory).resolvingSymlinksInPath().path
    if table.mount(of: path)?.options.contains("noexec") == true { return "is mounted noexec" }
    let attributes = try? FileManager.default.attributesOfFileSystem(forPath: directory)
    guard let free = (attributes?[.systemFreeSize] as? NSNumber)?.uint64Value else { return nil }
    return free >= byteCount ? nil : "has \(ByteCount.mebibytes(free >> 20)) free"
  }
}
