import Foundation
import Glibc
import LinuxIO

/// A real Linux kernel in a process of its own, and what it says on its console.
///
/// The kernel ends with this value, and also with this program, however that ends.
final class LinuxGuest {
  /// How the kernel is started.
  struct Configuration {
    let kernel: URL
    let memoryByteCount: UInt64
    /// Where the kernel runs. The paths below are relative to it: a kernel's command line cannot have every character
    /// that a path can.
    let directory: String
    let initrd: String
    /// The vhost-user socket on which the balloon is served.
    let balloonSocket: String
    /// Where the file of the guest's memory is made.
    let memoryPlace: String

    /// `VIRTIO_ID_BALLOON`
    private static let balloonID = 5

    var arguments: [String] {
      [
        "mem=\(memoryByteCount / 1024)K", "initrd=\(initrd)", "uml_dir=.", "umid=guest",
        "virtio_uml.device=\(balloonSocket):\(Self.balloonID)", "con=null", "con0=null,fd:1", "quiet", "loglevel=3",
      ]
    }
  }

  private static let mostBytesAtOnce = 4096

  private let process: ChildProcess
  private let output: FileDescriptor
  private let loop: EventLoop
  private let hear: (GuestLine) -> Void
  private var guardian: GuestGuard?
  private var console = GuestConsole()
  private var watch: EventLoop.Registration?

  /// Starts the kernel. What it has to say goes to `hear`, on the loop's thread.
  init(_ configuration: Configuration, loop: EventLoop, hear: @escaping (GuestLine) -> Void) throws {
    let pipe = try FileDescriptor.pipe()
    output = try pipe.reading.duplicate()
    self.loop = loop
    self.hear = hear
    let writing = ChildProcess.Stream.descriptor(pipe.writing.rawValue)
    let command = Self.launcher() + [configuration.kernel.path] + configuration.arguments
    let environment = ProcessInfo.processInfo.environment.merging(["TMPDIR": configuration.memoryPlace]) { $1 }
    // The kernel would change the settings of a terminal on its standard input.
    process = try ChildProcess(
      command[0], Array(command.dropFirst()), environment: environment, directory: configuration.directory,
      streams: .init(input: .null, output: writing, error: writing), hasOwnGroup: true)
    guardian = try GuestGuard(group: process.identifier, directory: configuration.directory)
    watch = try loop.watch(output.rawValue) { [unowned self] in receive() }
  }

  deinit {
    stop()
  }

  /// The last lines of its console.
  var lastWords: [String] { console.lastWords }

  /// Whether the kernel has ended. It may have said something before that has not been heard yet.
  var hasEnded: Bool { watch == nil || process.hasExited }

  /// The host memory that the kernel has allocated to the guest's memory file, as its process shows it: nil when that
  /// process has no such file.
  func memoryFileByteCount() throws -> UInt64? {
    let directory = "/proc/\(process.identifier)/fd"
    let paths = try FileManager.default.contentsOfDirectory(atPath: directory).map { "\(directory)/\($0)" }
    // The file has no name any more: only its descriptors are left.
    let nameless = paths.filter { path in
      (try? FileManager.default.destinationOfSymbolicLink(atPath: path))?.hasSuffix(" (deleted)") == true
    }
    // The kernel may close one meanwhile.
    let files = nameless.compactMap { try? FileDescriptor.open($0).status }
    return files.max { $0.byteCount < $1.byteCount }.map { UInt64($0.allocatedByteCount) }
  }

  /// Ends whatever there is left of the guest.
  func stop() {
    // A kernel that was killed leaves helpers, which hold the console and keep the group's number in use.
    process.kill(SIGKILL, group: true)
    process.waitUntilExit()
    close()
    guardian?.dismiss()
    guardian = nil
  }

  private func receive() {
    guard let bytes = try? output.readBytes(upTo: Self.mostBytesAtOnce), !bytes.isEmpty else { return close() }
    for line in console.take(bytes) { hear(line) }
  }

  private func close() {
    if let watch { loop.cancel(watch) }
    watch = nil
  }

  /// What goes before the kernel's command: `setarch -R` turns off address randomisation, which would leave a hole of up
  /// to 1 GiB in the guest's memory. Nothing where this machine has no such program or does not let it.
  private static func launcher() -> [String] {
    guard let tool = Tool.find("setarch"), Tool(tool).canRun(["-R"]) else { return [] }
    return [tool.path, "-R"]
  }
}
