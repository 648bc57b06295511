/// A group of named fields, declared once in `code(with:)`: as a value inside a state, or in an array or optional.
///
/// A record belongs to one section: its `since:` counts the versions of the section that holds it. A record cannot
/// contain itself, not even through an array.
public protocol StateRecord: StateValue {
  /// The record that a reader fills: every field at the value it has in a device that was just made.
  init()

  /// Shows every field to the coder, always the same ones and in the same order. What varies is an optional or an array.
  mutating func code(with coder: inout some StateCoder) throws(StateError)
}

/// All that a device must keep through a save and a restore: one versioned section of a snapshot.
///
/// Fields are only ever added, at the end, with `since:` and a higher `version`. None is removed, renamed, moved or
/// given another type.
public protocol SavedState: StateRecord {
  /// The name of the section, 1 to 255 bytes of UTF-8. It is part of the format.
  static var section: String { get }
  /// The newest version, which is the one written: 1 at first, one more for each change.
  static var version: Int { get }
}

extension SavedState {
  /// The payload of the section as `version` of it would have been written: the fields alone, without a header.
  ///
  /// Fails when a field newer than `version` holds something that an older reader would lose, when a string or array
  /// is longer than `StateLimits` allows, and when there is no such version.
  public func encoded(as version: Int = Self.version) throws(StateError) -> [UInt8] {
    try Self.checkVersion(version, section: Self.section)
    var writer = StateWriter(section: Self.section, version: version)
    var state = self
    try state.code(with: &writer)
    return try writer.finish()
  }

  /// The state that a payload of `version` holds; fields that are newer get their `else:` value.
  public init(decoding payload: [UInt8], version: Int = Self.version) throws(StateError) {
    try self.init(ByteCursor(payload, section: Self.section), version: version)
  }

  init(_ cursor: ByteCursor, version: Int) throws(StateError) {
    try Self.checkVersion(version, section: cursor.section)
    var reader = StateReader(cursor, version: version)
    self = try reader.fields(of: Self.self)
  }

  private static func checkVersion(_ version: Int, section: String) throws(StateError) {
    guard version >= 1, version <= Self.version else {
      throw .unsupportedSectionVersion(section: section, version: version, newest: Self.version)
    }
  }
}
