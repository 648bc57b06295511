/// The bounds of everything that a stream can make grow.
public enum StreamLimits {
  /// The longest body of a section other than the memory's, in bytes.
  public static let bodyByteCount = 64 << 20
  /// The longest bodies of all such sections together, in bytes.
  public static let bodiesByteCount = 256 << 20
  /// The most sections, and parts of sections, other than the memory's.
  public static let sectionCount = 16_384
  /// The longest description that a stream may have of itself, in bytes.
  public static let descriptionByteCount = 16 << 20
  /// The most values in such a description.
  public static let descriptionValueCount = 1 << 20
  /// How deep the description may nest.
  public static let descriptionDepth = 64
  /// The most elements and structures that are looked at to read all sections as the description tells.
  public static let descriptionVisitCount = 1 << 20
  /// The longest names of all those together, each with the names of what it is in, in bytes.
  public static let descriptionNameByteCount = 64 << 20
  /// The longest machine name, in bytes.
  public static let machineByteCount = 255
  /// The most blocks of memory.
  public static let blockCount = 1024
  /// The most memory of a guest that is loaded unless the caller wants more: 1 TiB, for which 64 MiB are kept in bitmaps.
  public static let loadedByteCount: UInt64 = 1 << 40
  /// The most memory in all blocks together: 64 TiB.
  public static let memoryByteCount: UInt64 = 64 << 40
  /// The longest bitmap of a block's pages in a file that has each at its place, in bytes: a bit for each page.
  public static let bitmapByteCount: UInt64 = 16 << 20
  /// The longest gap between the parts of such a file, in bytes.
  public static let gapByteCount: UInt64 = 64 << 20
  /// The most fields in which one section is shown.
  public static let fieldCount = 1 << 18
  /// The most fields in which all sections together are shown.
  public static let streamFieldCount = 1 << 20
  /// QEMU's own bound on the virtqueues of a device: the length of its arrays.
  public static let queueCount = 1024
}
