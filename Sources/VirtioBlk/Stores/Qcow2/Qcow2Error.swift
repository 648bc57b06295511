/// Why a qcow2 image was not opened, or did not do what it was asked for.
public indirect enum Qcow2Error: Error, Equatable, Sendable {
  /// The file does not begin as a qcow2 image does.
  case notQcow2
  /// A version other than 2 and 3.
  case version(UInt32)
  /// The image uses what is not provided here.
  case feature(Qcow2Feature)
  /// A field of the header has a value that no image can have, or that is beyond the limits kept here.
  case header(Qcow2Field, value: UInt64)
  /// The image was marked as corrupt by whoever used it before; it can be opened for reading.
  case markedCorrupt
  /// The reference counts are out of date, and this image, having snapshots or bitmaps or too many clusters, is not
  /// repaired here.
  case needsRepair
  /// The backing file has no format in the header: to guess it from what a guest wrote would let the guest choose.
  case backingFormatMissing(String)
  /// The backing file's format is neither `raw` nor `qcow2`.
  case backingFormat(String)
  /// The backing file is not named by a path.
  case backingName(String)
  /// The image stands on itself.
  case backingLoop(String)
  /// More images stand on each other than are followed.
  case backingDepth(limit: Int)
  /// The backing file could not be opened.
  case backing(String, StoreError)
  /// What was read while running cannot be; the store takes no more changes.
  case corrupt(Qcow2Damage)
  /// The image's tables can describe no more clusters.
  case full
  /// Another image is there than was opened.
  case replaced
  /// The size of an image with internal snapshots is not changed.
  case snapshots
}

/// What a qcow2 image can have and this store has not.
public enum Qcow2Feature: Equatable, Sendable {
  /// The method's number in the header.
  case encryption(UInt32)
  case externalDataFile
  /// The number of the method in the header; 1 is zstd.
  case compression(UInt8)
  case extendedL2
  /// Bits of the incompatible features that have no name yet.
  case unknown(UInt64)
}

/// A field of the header.
public enum Qcow2Field: String, Equatable, Sendable {
  case backingFileOffset = "backing_file_offset"
  case backingFileSize = "backing_file_size"
  case clusterBits = "cluster_bits"
  case size = "size"
  case l1Size = "l1_size"
  case l1TableOffset = "l1_table_offset"
  case refcountTableOffset = "refcount_table_offset"
  case refcountTableClusters = "refcount_table_clusters"
  case snapshotCount = "nb_snapshots"
  case snapshotsOffset = "snapshots_offset"
  case refcountOrder = "refcount_order"
  case headerLength = "header_length"
  case extensionLength = "header extension length"
  case compressionType = "compression_type"
}

/// What in an image contradicts itself.
public enum Qcow2Damage: Equatable, Sendable {
  /// An entry of a table that leads nowhere or has bits that must be 0.
  case entry(Qcow2Table, UInt64)
  /// A cluster, by its offset in the file, that serves two purposes at once.
  case overlap(UInt64)
  /// A cluster in use, by its offset in the file, that counts as free.
  case refcount(UInt64)
  /// Compressed data, by its offset in the file, that cannot be expanded.
  case compressedData(UInt64)
}

/// The kinds of table.
public enum Qcow2Table: String, Equatable, Sendable {
  case l1 = "L1"
  case l2 = "L2"
  case refcounts = "refcount"
}

extension Qcow2Error: CustomStringConvertible {
  public var description: String {
    switch self {
    case .notQcow2: "not a qcow2 image"
    case .version(let version): "version \(version) of qcow2: versions 2 and 3 are known"
    case .feature(let feature): "the image uses \(feature), which is not provided"
    case .header(let field, let value): "the image's header has the value \(value) for \(field.rawValue)"
    case .markedCorrupt: "the image is marked as corrupt and can only be read"
    case .needsRepair: "the image was not closed in order; 'qemu-img check -r all' repairs it"
    case .corrupt(let damage): "the image is corrupt: \(damage)"
    case .full: "the image can hold no more"
    case .replaced: "the image has been replaced by another since it was opened"
    case .snapshots: "the size of an image with internal snapshots cannot be changed"
    default: backingDescription
    }
  }

  private var backingDescription: String {
    switch self {
    case .backingFormatMissing(let path):
      "the image does not tell the format of its backing file \(path); 'qemu-img rebase -u -F' sets it"
    case .backingFormat(let format): "a backing file of format '\(format)': 'raw' and 'qcow2' are known"
    case .backingName(let name): "the backing file '\(name)' is not a path"
    case .backingLoop(let path): "the image \(path) stands on itself"
    case .backingDepth(let limit): "more than \(limit) images stand on each other"
    case .backing(let path, let error): "the backing file \(path): \(error)"
    default: ""
    }
  }
}

extension Qcow2Feature: CustomStringConvertible {
  public var description: String {
    switch self {
    case .encryption(let method): "encryption (method \(method))"
    case .externalDataFile: "an external data file"
    case .compression(let type): "compression of type \(type)\(type == 1 ? " (zstd)" : "")"
    case .extendedL2: "extended L2 entries"
    case .unknown(let bits): "the unknown features 0x\(String(bits, radix: 16))"
    }
  }
}

extension Qcow2Damage: CustomStringConvertible {
  public var description: String {
    switch self {
    case .entry(let table, let value): "an entry of a \(table.rawValue) table is 0x\(String(value, radix: 16))"
    case .overlap(let offset): "the cluster at 0x\(String(offset, radix: 16)) serves two purposes"
    case .refcount(let offset): "the cluster at 0x\(String(offset, radix: 16)) is in use and counts as free"
    case .compressedData(let offset): "the compressed data at 0x\(String(offset, radix: 16)) cannot be expanded"
    }
  }
}
