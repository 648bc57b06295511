import DeviceState
import Glibc
import LinuxIO
import VhostUser
import VirtioCore

extension ServedDevice where Device: ~Copyable {
  /// Writes the device as it is now into a file, for `virtiokit state`. Front-ends wait meanwhile, for a second at most.
  func saveState(to path: String) throws {
    let snapshot = try snapshot(attempts: 5_000) { usleep(200) }
    try StateFile.write(snapshot.encoded(), to: path)
  }
}
