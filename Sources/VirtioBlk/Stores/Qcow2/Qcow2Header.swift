/// The header of a qcow2 image (QEMU `docs/interop/qcow2.txt`, "Header"), checked.
struct Qcow2Header: Equatable, Sendable {
  /// The largest L1 table, in bytes; QEMU's limit. It is kept in memory.
  static let largestL1ByteCount: UInt64 = 32 << 20
  /// The largest refcount table, in bytes; QEMU's limit. It is kept in memory.
  static let largestRefcountTableByteCount: UInt64 = 8 << 20
  static let largestBackingNameByteCount = 1023
  static let largestSnapshotCount: UInt32 = 65536
  static let clusterBits: ClosedRange<UInt32> = 9...21

  static let magic: UInt32 = 0x5146_49FB
  static let versionTwoByteCount = 72
  static let versionThreeByteCount = 104

  /// Where fields are that are changed while an image is in use.
  enum Place {
    static let size: UInt64 = 24
    static let l1: UInt64 = 36
    static let refcountTable: UInt64 = 48
    static let incompatible: UInt64 = 72
    static let autoclear: UInt64 = 88
  }

  enum Incompatible {
    static let dirty: UInt64 = 1 << 0
    static let corrupt: UInt64 = 1 << 1
    static let externalData: UInt64 = 1 << 2
    static let compressionType: UInt64 = 1 << 3
    static let extendedL2: UInt64 = 1 << 4
  }

  enum Extension {
    static let backingFormat: UInt32 = 0xE279_2ACA
    static let bitmaps: UInt32 = 0x2385_2875
  }

  var version: UInt32 = 3
  var clusterBits: UInt32 = 16
  /// The disk's size as the image has it; bytes of a last sector that is not whole included.
  var byteCount: UInt64 = 0
  var l1EntryCount: UInt32 = 0
  var l1Offset: UInt64 = 0
  var refcountTableOffset: UInt64 = 0
  var refcountTableClusterCount: UInt32 = 0
  var snapshotCount: UInt32 = 0
  var snapshotsOffset: UInt64 = 0
  var incompatible: UInt64 = 0
  var autoclear: UInt64 = 0
  var refcountOrder: UInt32 = 4
  var backingName: String?
  var backingFormat: String?
  var hasBitmaps = false

  var layout: Qcow2Layout { Qcow2Layout(version: version, clusterBits: clusterBits, refcountOrder: refcountOrder) }
  var isDirty: Bool { incompatible & Incompatible.dirty != 0 }
  var isMarkedCorrupt: Bool { incompatible & Incompatible.corrupt != 0 }
}

// MARK: - Reading

extension Qcow2Header {
  init(of file: ImageFile) throws(StoreError) {
    let start = try file.bytes(at: 0, count: Self.versionThreeByteCount + 8)
    do throws(Qcow2Error) {
      try self.init(fields: start)
    } catch {
      throw .image(error)
    }
    let first = try file.bytes(at: 0, count: layout.clusterByteCount)
    do throws(Qcow2Error) {
      try readExtensions(first)
      try readBackingName(first)
      try checkTables(fileByteCount: file.byteCount)
    } catch {
      throw .image(error)
    }
  }

  /// - Parameter bytes: at least 112, of which those beyond the header are not looked at.
  init(fields bytes: [UInt8]) throws(Qcow2Error) {
    guard bytes.bigEndian(at: 0) == Self.magic else { throw .notQcow2 }
    version = bytes.bigEndian(at: 4)
    guard version == 2 || version == 3 else { throw .version(version) }
    clusterBits = bytes.bigEndian(at: 20)
    guard Self.clusterBits.contains(clusterBits) else { throw .header(.clusterBits, value: UInt64(clusterBits)) }
    byteCount = bytes.bigEndian(at: 24)
    let encryption = bytes.bigEndian(at: 32, as: UInt32.self)
    guard encryption == 0 else { throw .feature(.encryption(encryption)) }
    l1EntryCount = bytes.bigEndian(at: 36)
    l1Offset = bytes.bigEndian(at: 40)
    refcountTableOffset = bytes.bigEndian(at: 48)
    refcountTableClusterCount = bytes.bigEndian(at: 56)
    snapshotCount = bytes.bigEndian(at: 60)
    snapshotsOffset = bytes.bigEndian(at: 64)
    if version == 3 { try readVersionThree(bytes) }
  }

  private mutating func readVersionThree(_ bytes: [UInt8]) throws(Qcow2Error) {
    incompatible = bytes.bigEndian(at: 72)
    autoclear = bytes.bigEndian(at: 88)
    refcountOrder = bytes.bigEndian(at: 96)
    guard refcountOrder <= 6 else { throw .header(.refcountOrder, value: UInt64(refcountOrder)) }
    let length = try headerLength(bytes)
    let compression = length > Self.versionThreeByteCount ? bytes[Self.versionThreeByteCount] : 0
    if incompatible & Incompatible.externalData != 0 { throw .feature(.externalDataFile) }
    if incompatible & Incompatible.compressionType != 0 { throw .feature(.compression(compression)) }
    if incompatible & Incompatible.extendedL2 != 0 { throw .feature(.extendedL2) }
    let unknown = incompatible & ~(Incompatible.dirty | Incompatible.corrupt)
    guard unknown == 0 else { throw .feature(.unknown(unknown)) }
    guard compression == 0 else { throw .header(.compressionType, value: UInt64(compression)) }
  }

  private func headerLength(_ bytes: [UInt8]) throws(Qcow2Error) -> Int {
    guard version == 3 else { return Self.versionTwoByteCount }
    let length = bytes.bigEndian(at: 100, as: UInt32.self)
    guard length >= Self.versionThreeByteCount, length % 8 == 0, length <= layout.clusterByteCount else {
      throw .header(.headerLength, value: UInt64(length))
    }
    return Int(length)
  }

  private mutating func readExtensions(_ bytes: [UInt8]) throws(Qcow2Error) {
    var offset = try headerLength(bytes)
    let backingOffset = bytes.bigEndian(at: 8, as: UInt64.self)
    let end = min(UInt64(bytes.count), backingOffset == 0 ? .max : backingOffset)
    while UInt64(offset) + 8 <= end {
      let kind = bytes.bigEndian(at: offset, as: UInt32.self)
      let length = bytes.bigEndian(at: offset + 4, as: UInt32.self)
      if kind == 0 { return }
      guard UInt64(length) <= end - UInt64(offset) - 8 else { throw .header(.extensionLength, value: UInt64(length)) }
      let content = bytes[offset + 8..<offset + 8 + Int(length)]
      if kind == Extension.backingFormat { backingFormat = String(decoding: content, as: UTF8.self) }
      if kind == Extension.bitmaps { hasBitmaps = true }
      offset += 8 + (Int(length) + 7) & ~7
    }
  }

  private mutating func readBackingName(_ bytes: [UInt8]) throws(Qcow2Error) {
    let offset = bytes.bigEndian(at: 8, as: UInt64.self)
    let length = bytes.bigEndian(at: 16, as: UInt32.self)
    guard offset != 0 else { return }
    guard offset >= Self.versionTwoByteCount, offset < bytes.count else {
      throw .header(.backingFileOffset, value: offset)
    }
    guard length > 0, length <= Self.largestBackingNameByteCount, Int(length) <= bytes.count - Int(offset),
      let name = String(validating: bytes[Int(offset)..<Int(offset) + Int(length)], as: UTF8.self)
    else { throw .header(.backingFileSize, value: UInt64(length)) }
    backingName = name
  }
}

// MARK: - Checking

extension Qcow2Header {
  private func checkTables(fileByteCount: UInt64) throws(Qcow2Error) {
    let layout = layout
    try check(
      l1Offset, UInt64(l1EntryCount) * 8, .l1TableOffset, fileByteCount, mayBeMissing: l1EntryCount == 0)
    guard UInt64(l1EntryCount) * 8 <= Self.largestL1ByteCount else {
      throw .header(.l1Size, value: UInt64(l1EntryCount))
    }
    guard byteCount <= UInt64(l1EntryCount) * layout.l2ReachByteCount else { throw .header(.size, value: byteCount) }
    let tableByteCount = UInt64(refcountTableClusterCount) << UInt64(clusterBits)
    guard tableByteCount > 0, tableByteCount <= Self.largestRefcountTableByteCount else {
      throw .header(.refcountTableClusters, value: UInt64(refcountTableClusterCount))
    }
    try check(refcountTableOffset, tableByteCount, .refcountTableOffset, fileByteCount)
    guard snapshotCount <= Self.largestSnapshotCount else {
      throw .header(.snapshotCount, value: UInt64(snapshotCount))
    }
    try check(snapshotsOffset, 0, .snapshotsOffset, fileByteCount, mayBeMissing: snapshotCount == 0)
    guard
      !layout.clusters(l1Offset, UInt64(l1EntryCount) * 8).overlaps(
        layout.clusters(refcountTableOffset, tableByteCount))
    else { throw .header(.refcountTableOffset, value: refcountTableOffset) }
  }

  /// A table begins at a cluster after the first one and ends within the file, whose last cluster need not be whole.
  private func check(
    _ offset: UInt64, _ byteCount: UInt64, _ field: Qcow2Field, _ fileByteCount: UInt64, mayBeMissing: Bool = false
  ) throws(Qcow2Error) {
    if mayBeMissing { return }
    let end = layout.roundedUp(fileByteCount)
    guard offset % UInt64(layout.clusterByteCount) == 0, offset > 0, offset < fileByteCount, byteCount <= end - offset
    else { throw .header(field, value: offset) }
  }
}
