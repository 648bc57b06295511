import Glibc
import LinuxIO

/// Commands on standard input, answered on standard output.
final class Console {
  private let input: FileDescriptor
  private let loop: EventLoop
  private let execute: (String) -> Reply
  private var lines = CommandLines()
  private var watch: EventLoop.Registration?

  init(
    _ input: consuming FileDescriptor, loop: EventLoop, execute: @escaping (String) -> Reply
  ) throws(LinuxError) {
    self.loop = loop
    self.execute = execute
    self.input = input
    // A shell stops a background program that reads its terminal; so the read fails instead, and that is the end of it.
    signal(SIGTTIN, SIG_IGN)
    do throws(LinuxError) {
      watch = try loop.watch(self.input.rawValue) { [unowned self] in receive() }
    } catch {
      // A closed input or a file, such as /dev/null: nobody is there to type.
      guard [EPERM, EBADF].contains(error.number) else { throw error }
    }
  }

  private func receive() {
    do throws(LinuxError) {
      let bytes = try input.readBytes(upTo: CommandLines.mostBytes)
      guard !bytes.isEmpty else { return close() }
      guard let commands = lines.take(bytes) else {
        Terminal.complain("a line on standard input is too long")
        return close()
      }
      for command in commands { Terminal.write(execute(command).text) }
    } catch {
      if error.number != EIO { Terminal.complain("\(error)") }
      close()
    }
  }

  /// The end of the input is not the end of the program.
  private func close() {
    if let watch { loop.cancel(watch) }
    watch = nil
  }
}
