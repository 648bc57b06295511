import LinuxIO

/// The program's standard output and error. Whoever is to read them may be gone; that stops nothing.
enum Terminal {
  static func write(_ text: String) {
    write(text, to: 1)
  }

  /// Prints what a command was asked for. A full disk is an error; a reader that has seen enough is not.
  static func deliver(_ bytes: [UInt8]) throws(LinuxError) {
    let output = FileDescriptor(owning: 1)
    var failure: LinuxError?
    do throws(LinuxError) { try output.writeAll(bytes) } catch { failure = error }
    _ = output.release()
    if let failure, !failure.isPeerGone {
      throw LinuxError(call: failure.call, subject: "standard output", number: failure.number)
    }
  }

  static func deliver(_ text: String) throws(LinuxError) { try deliver(Array(text.utf8)) }

  static func complain(_ sentence: String) {
    write("virtiokit: \(sentence)\n", to: 2)
  }

  /// Puts a text in the place of the line that a terminal shows last.
  static func overwrite(_ text: String) {
    write("\r\u{1b}[K\(text)", to: 2)
  }

  private static func write(_ text: String, to number: Int32) {
    let descriptor = FileDescriptor(owning: number)
    // There is nobody left to tell of a failure.
    try? descriptor.writeAll(Array(text.utf8))
    _ = descriptor.release()
  }
}
