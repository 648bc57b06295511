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

  private let process = Process()
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
    let writing = FileHandle(fileDescriptor: pipe.writing.rawValue, closeOnDealloc: false)
    let command = Self.launcher() + [configuration.kernel.path] + configuration.arguments
    process.executableURL = URL(fileURLWithPath: command[0])
    process.arguments = Array(command.dropFirst())
    process.currentDirectoryURL = URL(fileURLWithPath: configuration.directory)
    process.environment = ProcessInfo.processInfo.environment
      .merging(["TMPDIR": configuration.memoryPlace]) { $1 }
    // The kernel would change the terminal's settings.
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = writing
    process.standardError = writing
    try process.run()
    guardian = try GuestGuard(group: process.processIdentifier, directory: configuration.directory)
    watch = try loop.watch(output.rawValue) { [unowned self] in receive() }
  }

  deinit {
    stop()
  }

  /// The last lines of its console.
  var lastWords: [String] { console.lastWords }

  /// Whether the kernel has ended. It may have said something before that has not been heard yet.
  var hasEnded: Bool { watch == nil || hasExited }

  /// Foundation notices an exit only when the helpers have exited too.
  private var hasExited: Bool {
    let path = "/proc/\(process.processIdentifier)/stat"
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { return true }
    // The process's state follows its name, which is in brackets.
    return text.split(separator: ")").last?.hasPrefix(" Z") ?? true
  }

  /// The host memory that the kernel has allocated to the guest's memory file, as its process shows it: nil when that
  /// process has no such file.
  func memoryFileByteCount() throws -> UInt64? {
    let directory = "/proc/\(process.processIdentifier)/fd"
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
    if process.isRunning || watch != nil { kill(-process.processIdentifier, SIGKILL) }
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
