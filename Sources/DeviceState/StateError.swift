/// Why a state could not be written or read. Nothing is partly restored when one is thrown.
public enum StateError: Error, Equatable, Sendable {
  // MARK: The snapshot as a whole

  /// The bytes do not begin like a snapshot.
  case notASnapshot
  /// The format of the snapshot is not one that this code reads; 1 is the oldest.
  case unsupportedFormat(version: Int, newest: Int, producer: String)
  /// The bytes do not have the checksum that they came with; the section is empty for the whole snapshot's.
  case checksumMismatch(section: String, expected: UInt32, found: UInt32)
  /// A section has a flag that this format does not know.
  case unknownFlags(StatePlace, flags: UInt16)
  /// Two sections have the same name and instance.
  case duplicateSection(section: String)
  /// The snapshot has no such section.
  case missingSection(section: String)
  /// The section was written by a version that this code does not read; 1 is the oldest.
  case unsupportedSectionVersion(section: String, version: Int, newest: Int)
  /// Sections that nobody took and that are not marked optional.
  case unknownSections([String])
  /// A name is empty, or longer than `StateLimits.nameByteCount`.
  case invalidName(name: String)

  // MARK: Bytes

  /// The bytes end inside a value.
  case truncated(StatePlace, missing: Int)
  /// A length or count says more than the bytes that are left in what it stands in.
  case lengthBeyondEnd(StatePlace, byteCount: Int, available: Int)
  /// A length or count is above its limit in `StateLimits`, in a snapshot or in a state to be written.
  case countBeyondLimit(StatePlace, count: Int, limit: Int)
  /// Bytes are left over after the last value.
  case trailingBytes(StatePlace, byteCount: Int)
  /// Records or types stand inside each other deeper than `StateLimits.nesting`.
  case nestedTooDeep(StatePlace)

  // MARK: Fields

  /// The type beside a name is none of this format.
  case unknownTypeTag(StatePlace, tag: UInt8)
  /// The field has another type than the one asked for.
  case wrongType(StatePlace, expected: StateType, found: StateType)
  /// The record does not have the field that is asked for.
  case missingField(StatePlace)
  /// The record has a field that this version of the section does not.
  case unknownField(StatePlace)
  /// The record has the field that is asked for, but after others that follow it.
  case fieldOutOfOrder(StatePlace, found: String)
  /// The record has two fields of one name.
  case duplicateField(StatePlace)

  // MARK: Values

  /// A string or name is not UTF-8.
  case invalidUTF8(StatePlace)
  /// A `Bool`, or the presence of an optional, is neither 0 nor 1.
  case invalidBool(StatePlace, value: UInt8)
  /// The enumeration has no case of this raw value.
  case unknownRawValue(StatePlace, value: String, type: String)
  /// The device that adopts the state cannot be in it; the reason is a clause such as "is above the size of the disk".
  case invalidValue(section: String, field: String, reason: String)
  /// A tree to be written has a value that is not of the type beside it.
  case valueDoesNotFit(StatePlace, type: StateType)
  /// An older version of the section has no room for what the field holds.
  case fieldNewerThanVersion(section: String, field: String, since: Int, version: Int)

  // MARK: Text

  /// The text is no JSON; the reason is a clause such as "a string does not end".
  case invalidJSON(line: Int, reason: String)
  /// The JSON is not that of a snapshot; the path is that of a member, such as `sections[0].fields`.
  case unexpectedJSON(path: String, reason: String)
  /// There is no such field; what was asked for.
  case noSuchField(String)
  /// The text is no value of the field's type.
  case unreadableValue(field: String, text: String, type: StateType)
}

extension StateError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .notASnapshot: "not a snapshot: the first 8 bytes are not those of one"
    case .unsupportedFormat(let version, let newest, let producer):
      "the snapshot of \(producer.printable) has format \(version); this code reads formats 1 to \(newest)"
    case .checksumMismatch(let section, let expected, let found):
      "damaged: \(section.isEmpty ? "the snapshot" : "section \(section.printable)") has checksum \(hex(found)), "
        + "but came with \(hex(expected))"
    case .unknownFlags(let place, let flags): "\(place): unknown flags \(hex(UInt32(flags)))"
    case .duplicateSection(let section): "section \(section.printable) is there twice"
    case .missingSection(let section): "section \(section.printable) is not there"
    case .unsupportedSectionVersion(let section, let version, let newest):
      "section \(section.printable) has version \(version); this code reads versions 1 to \(newest)"
    case .unknownSections(let sections):
      "sections that nothing here reads: \(sections.map(\.printable).joined(separator: ", "))"
    case .invalidName(let name):
      "a name must have 1 to \(StateLimits.nameByteCount) bytes, not \(name.utf8.count): \(name.printable)"
    case .truncated, .lengthBeyondEnd, .countBeyondLimit, .trailingBytes, .nestedTooDeep: bytesDescription
    default: fieldDescription
    }
  }

  private var bytesDescription: String {
    switch self {
    case .truncated(let place, let missing): "\(place): the bytes end inside a value, \(missing) too early"
    case .lengthBeyondEnd(let place, let byteCount, let available):
      "\(place): \(byteCount) bytes are announced, but only \(available) are left"
    case .countBeyondLimit(let place, let count, let limit): "\(place): a count of \(count) is above the limit \(limit)"
    case .trailingBytes(let place, let byteCount): "\(place): \(byteCount) bytes are left over"
    case .nestedTooDeep(let place): "\(place): nested deeper than \(StateLimits.nesting)"
    default: ""
    }
  }

  private var fieldDescription: String {
    switch self {
    case .unknownTypeTag(let place, let tag): "\(place): type tag \(tag) is unknown"
    case .wrongType(let place, let expected, let found): "\(place): the type is \(found), not \(expected)"
    case .missingField(let place): "\(place): the field is missing"
    case .unknownField(let place): "\(place): the field is unknown to this version"
    case .fieldOutOfOrder(let place, let found): "\(place): the field comes too late, after \(found.printable)"
    case .duplicateField(let place): "\(place): the field is there twice"
    case .invalidUTF8(let place): "\(place): not UTF-8"
    case .invalidBool(let place, let value): "\(place): \(value) is neither 0 nor 1"
    case .unknownRawValue(let place, let value, let type): "\(place): \(value.printable) is no value of \(type)"
    case .invalidValue(let section, let field, let reason):
      "section \(section.printable), field \(field.printable): the value \(reason)"
    case .valueDoesNotFit(let place, let type): "\(place): the value is no \(type)"
    case .fieldNewerThanVersion(let section, let field, let since, let version):
      "section \(section.printable), field \(field.printable): holds a value that version \(version) cannot carry; "
        + "the field exists since version \(since)"
    default: textDescription
    }
  }

  private var textDescription: String {
    switch self {
    case .invalidJSON(let line, let reason): "line \(line): \(reason)"
    case .unexpectedJSON(let path, let reason): "\(path.isEmpty ? "the text" : path.printable): \(reason)"
    case .noSuchField(let path): "there is no field \(path.printable)"
    case .unreadableValue(let field, let text, let type):
      "field \(field.printable): \"\(text.printable)\" is no value of type \(type)"
    default: ""
    }
  }

  private func hex(_ value: UInt32) -> String { "0x" + String(value, radix: 16) }
}
