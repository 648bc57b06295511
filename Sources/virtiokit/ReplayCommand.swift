import LinuxIO
import Options
import Recording

/// `virtiokit replay`
struct ReplayCommand: Command {
  static let name = "replay"
  static let summary = "Plays a recording of a device again, without its guest, and compares."
  static let discussion = """
    A recording is made by "--record FILE" of another command. It ends with 0 when the device does the same as then, with 1 \
    when it does something else, and says what, and with 2 when the file cannot be played.
    """
  static let examples = [
    Example("disk.rec", "Play what a guest did to a disk.")
  ]

  var path = ""
  var asJSON = false
  var mayBeCut = false

  mutating func declare(in options: inout OptionTable) {
    options.operand("FILE", &path, "the recording; - is standard input")
    options.flag("json", &asJSON, "print JSON")
    options.flag(
      "cut", &mayBeCut, "play a recording that was cut off, as that of a device that crashed, as far as it goes")
  }

  func validate() throws(OptionError) {
    if path.isEmpty { throw .missingOperand("FILE") }
  }

  /// - Returns: the program's status.
  func run() -> Int32 {
    do throws(RecordingError) {
      let result = try recording().replay()
      try deliver(asJSON ? "\(Self.json(result))\n" : Self.text(result))
      return result.difference == nil ? 0 : 1
    } catch {
      if asJSON { Terminal.write("\(JSON.object([("error", .text("\(error)"))]))\n") }
      Terminal.complain(Self.complaint(path, error))
      return 2
    }
  }

  private func deliver(_ text: String) throws(RecordingError) {
    do throws(LinuxError) { try Terminal.deliver(text) } catch { throw .system(error) }
  }

  /// The kernel's errors name the file themselves.
  private static func complaint(_ path: String, _ error: RecordingError) -> String {
    if case .system(let error) = error, !error.subject.isEmpty { return "\(error)" }
    return "\(path): \(error)"
  }

  private func recording() throws(RecordingError) -> Recording {
    let file = try contents()
    do throws(RecordingError) {
      return try Recording(file)
    } catch {
      // All before the end of such a file was found to be as it was written.
      guard mayBeCut, case .cut = error else { throw error }
      return try Recording(try Recording.mended(file))
    }
  }

  private func contents() throws(RecordingError) -> [UInt8] {
    do throws(LinuxError) {
      return try InputFile.bytes(of: path, upTo: TapeLimits.fileByteCount)
    } catch {
      throw .system(error)
    }
  }

  private static func text(_ result: ReplayResult) -> String {
    guard let difference = result.difference else { return "same outputs in \(result.stepCount) steps\n" }
    return "\(difference)\n"
  }

  private static func json(_ result: ReplayResult) -> JSON {
    let difference = result.difference.map { difference in
      JSON.object([
        ("step", .number(UInt64(difference.step))), ("byte", .number(UInt64(difference.place))),
        ("call", .text(difference.call)), ("queue", difference.queue.map { .number(UInt64($0)) } ?? .null),
        ("recorded", .text(difference.expected)), ("now", .text(difference.found)),
      ])
    }
    return .object([("steps", .number(UInt64(result.stepCount))), ("difference", difference ?? .null)])
  }
}
