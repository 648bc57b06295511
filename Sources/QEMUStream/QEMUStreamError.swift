public import DeviceState
public import GuestRAM
public import LinuxIO

/// Where in a stream something is wrong.
public struct StreamPlace: Equatable, Sendable, CustomStringConvertible {
  /// The section as `name` or `name/instance`; empty for what belongs to none.
  public let section: String
  /// The path of the field, such as `queues[2].desc`; empty when no field is being read.
  public let field: String
  /// The byte at which it was noticed, counted from the start of the stream.
  public let offset: UInt64

  public init(section: String = "", field: String = "", offset: UInt64) {
    self.section = section
    self.field = field
    self.offset = offset
  }

  public var description: String {
    var parts: [String] = []
    if !section.isEmpty { parts.append("section \(section.printable)") }
    if !field.isEmpty { parts.append("field \(field.printable)") }
    parts.append("byte \(offset)")
    return parts.joined(separator: ", ")
  }
}

/// Why a stream cannot be read, taken over or written.
public enum QEMUStreamError: Error, Equatable, Sendable {
  /// The first four bytes are not those of a migration stream.
  case notAStream(magic: UInt32)
  /// A version of the stream, or of a section that has to be understood, which this code does not know.
  case unsupportedVersion(StreamPlace, version: UInt32, known: UInt32)
  /// The stream ends too early.
  case truncated(StreamPlace, missing: Int)
  /// Something comes after the end.
  case trailingBytes(StreamPlace)
  /// A byte that begins no part of a stream.
  case unknownPart(StreamPlace, type: UInt8)
  /// A value that cannot stand there.
  case invalid(StreamPlace, reason: String)
  /// A length or count larger than anything that is taken.
  case beyondLimit(StreamPlace, value: UInt64, limit: UInt64)
  /// Pages of a memory block that the stream does not have, or outside of it.
  case unknownPage(StreamPlace, block: String, offset: UInt64)
  /// Pages that no part of the stream tells the content of.
  case missingPages(block: String, count: UInt64)
  /// The stream's own description of itself tells something else.
  case contradictsDescription(StreamPlace, reason: String)
  /// A known part of some streams that is not taken.
  case unsupported(StreamPlace, what: String)
  /// The stream does not have it.
  case missing(String)
  /// None of the devices is one that is known here.
  case noDevice
  /// A machine of which it is not known where its memory is.
  case unknownMachine(String)
  /// State that the other side has no place for.
  case cannotCarry(device: String, reason: String)
  /// Reading or writing failed.
  case system(LinuxError)
  case memory(GuestMemoryError)
  case state(StateError)
}

extension QEMUStreamError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .notAStream(let magic): "byte 0: no migration stream: it begins with 0x\(String(magic, radix: 16))"
    case .unsupportedVersion(let place, let version, let known): "\(place): version \(version), and \(known) is known"
    case .truncated(let place, let missing): "\(place): the stream ends, with at least \(missing) bytes missing"
    case .trailingBytes(let place): "\(place): bytes after the end of the stream"
    case .unknownPart(let place, let type): "\(place): no part of a stream begins with \(type)"
    case .invalid(let place, let reason): "\(place): \(reason)"
    case .beyondLimit(let place, let value, let limit): "\(place): \(value), where at most \(limit) is taken"
    case .unknownPage(let place, let block, let offset): "\(place): no page \(offset) in a block \(block.printable)"
    case .missingPages(let block, let count): "the stream lacks \(count) pages of the block \(block.printable)"
    case .contradictsDescription(let place, let reason): "\(place): not as the stream describes itself: \(reason)"
    case .unsupported(let place, let what): "\(place): \(what) is not supported"
    case .missing(let what): "the stream has no \(what)"
    case .noDevice: "the stream has no virtio-blk, virtio-net or virtio-balloon"
    case .unknownMachine(let type): "where the memory is in a machine \(type.printable) is not known"
    case .cannotCarry(let device, let reason): "\(device.printable): cannot be carried: \(reason)"
    case .system(let error): error.description
    case .memory(let error): error.description
    case .state(let error): error.description
    }
  }
}

extension String {
  /// The text with every control character replaced, since a stream's names are anybody's.
  var printable: String {
    String(String.UnicodeScalarView(unicodeScalars.map { $0.value < 32 || $0.value == 127 ? "\u{FFFD}" : $0 }))
  }
}

/// Runs what reads or writes a file and names its error as one of ours.
func system<Result: ~Copyable>(_ body: () throws(LinuxError) -> Result) throws(QEMUStreamError) -> Result {
  do { return try body() } catch { throw .system(error) }
}

/// Runs what touches guest memory and names its error as one of ours.
func memory<Result>(_ body: () throws(GuestMemoryError) -> Result) throws(QEMUStreamError) -> Result {
  do { return try body() } catch { throw .memory(error) }
}

/// Runs what reads or writes saved state and names its error as one of ours.
func state<Result>(_ body: () throws(StateError) -> Result) throws(QEMUStreamError) -> Result {
  do { return try body() } catch { throw .state(error) }
}
