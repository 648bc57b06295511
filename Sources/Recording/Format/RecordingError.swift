public import LinuxIO

/// What is wrong with a recording, or why none could be made. Places are bytes, counted from the start of the file.
public enum RecordingError: Error, Equatable, Sendable {
  /// The bytes do not begin like a recording.
  case notARecording
  /// A format that is not known here.
  case unknownFormat(UInt8)
  /// A device that cannot be played again here.
  case unknownDevice(UInt32)
  /// The file ends before the recording does: it was cut, or whoever made it did not end well.
  case cut(at: Int)
  /// A record does not have the checksum that it came with: bytes were changed, put in or taken out.
  case damaged(at: Int)
  /// Bytes behind the end.
  case excess(at: Int, byteCount: Int)
  /// A record that makes no sense.
  case malformed(at: Int, String)
  /// A step that no driver could take, or that does not fit those before it.
  case illegalStep(at: Int, String)
  /// More than a recording takes.
  case tooMuch(String, count: Int, limit: Int)
  /// A queue whose chains in flight are noted for a successor, which then decide what it goes on from.
  case tracked(queue: Int)
  /// The kernel refused.
  case system(LinuxError)
}

extension RecordingError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .notARecording: "this is no recording of a device"
    case .unknownFormat(let format): "a recording of format \(format), which is not known here"
    case .unknownDevice(let number): "a recording of device type \(number), which is not known here"
    case .cut(let place): "byte \(place): the recording is cut off"
    case .damaged(let place): "byte \(place): the recording is damaged: its checksum does not fit"
    case .excess(let place, let count): "byte \(place): \(count) bytes behind the end of the recording"
    case .malformed(let place, let reason): "byte \(place): \(reason)"
    case .illegalStep(let place, let reason): "byte \(place): a step that cannot be taken: \(reason)"
    case .tooMuch(let what, let count, let limit): "\(count) \(what), where a recording takes at most \(limit)"
    case .tracked(let queue): "queue \(queue) has an in-flight area, and cannot be recorded with it"
    case .system(let error): error.description
    }
  }
}

/// The bounds of everything that a recording can make grow. Whoever makes one holds to the same.
public enum TapeLimits {
  /// The longest file, in bytes.
  public static let fileByteCount = 1 << 30
  /// The longest record, as it is written and as it is read, in bytes.
  public static let recordByteCount = 64 << 20
  /// The most bytes at one place of guest memory or in one answer.
  public static let contentByteCount = 16 << 20
  /// How much guest memory a replay touches at most, in bytes.
  public static let memoryByteCount = 4 << 30
  /// The most elements of one list.
  public static let elementCount = 1 << 20
}
