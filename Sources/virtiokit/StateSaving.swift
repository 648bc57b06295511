import DeviceState
import Glibc
import LinuxIO
import VhostUser
import VirtioCore

extension ServedDevice where Device: ~Copyable {
  /// Writes the device as it is now into a file, for `virtiokit state`. Front-ends wait meanwhile, for a second at most.
  /// - Returns: a line that tells where it is: the path may be a relative one, and is that of this program.
  func saveState(to path: String) throws -> String {
    if let beginning = try InputFile.beginning(of: path), !beginning.starts(with: "VKSTATE".utf8) {
      throw OutputTrouble.holdsOther(path, than: "snapshot")
    }
    let bytes = try snapshot(attempts: 5_000) { usleep(200) }.encoded()
    try FileDescriptor.replaceContents(of: path, with: bytes)
    return "\(try FileDescriptor.fullPath(of: path)): \(bytes.count) bytes\n"
  }
}
