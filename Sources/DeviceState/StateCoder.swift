/// What a state's `code(with:)` shows its fields to: a writer, a reader or a schema printer.
///
/// The order of the calls is the order of the fields in every snapshot, and the names stand in it.
public protocol StateCoder {
  /// A field that every version of the section has.
  mutating func field<V: StateValue>(_ name: StaticString, _ value: inout V) throws(StateError)

  /// A field that was added in `version` of the section, after all that were there before.
  ///
  /// Reading an older version gives `absent`. Writing an older version leaves the field out, and fails with
  /// `StateError.fieldNewerThanVersion` if it holds anything but `absent`.
  mutating func field<V: StateValue>(
    _ name: StaticString, _ value: inout V, since version: Int, else absent: V
  ) throws(StateError)
}
