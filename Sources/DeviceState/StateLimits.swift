/// The bounds of everything that a snapshot can make grow. Writer and reader hold to the same ones.
public enum StateLimits {
  /// The longest name of a section, an instance, a field, a producer: its length is one byte.
  public static let nameByteCount = 255
  /// The most sections in one snapshot.
  public static let sectionCount = 1024
  /// The longest payload of one section, in bytes.
  public static let payloadByteCount = 64 << 20
  /// The most elements in one array.
  public static let elementCount = 65_536
  /// The longest string value, in bytes of UTF-8.
  public static let stringByteCount = 65_536
  /// The longest `[UInt8]` value, in bytes.
  public static let bytesByteCount = 16 << 20
  /// The most values of a snapshot that are read without the declarations of its states, to be shown or changed. Nothing
  /// limits what a device's own state reads, but its length.
  public static let valueCount = 1 << 20
  /// How deep records may stand inside records, and arrays and optionals inside one field's type.
  public static let nesting = 16
}
