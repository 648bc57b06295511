import LinuxIO

/// The program's standard output and error. Whoever is to read them may be gone; that stops nothing.
enum Terminal {
  static func write(_ text: String) {
    write(text, to: 1)
  }

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
