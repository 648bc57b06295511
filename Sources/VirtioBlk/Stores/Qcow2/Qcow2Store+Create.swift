/// How a new qcow2 image is laid out.
public struct Qcow2Options: Equatable, Sendable {
  /// 2 or 3.
  public var version = 3
  /// A power of two, 512 bytes to 2 MiB.
  public var clusterByteCount = 65536
  /// The width of reference counts: a power of two, 1 to 64; 16 in version 2.
  public var refcountBitCount = 16

  public init() {}
}

/// The image that a new one stands on.
public struct Qcow2BackingFile: Equatable, Sendable {
  public enum Format: String, Sendable {
    case raw, qcow2
  }

  /// A path; a relative one begins where the new image is.
  public var path: String
  public var format: Format

  public init(path: String, format: Format) {
    self.path = path
    self.format = format
  }
}

extension Qcow2Store {
  /// Makes an image in which nothing is written yet; with a backing file, an overlay of it. A file that exists is the
  /// error `EEXIST`.
  /// - Parameter byteCount: the disk's size, a multiple of 512; the backing file's when nil.
  public static func create(
    path: String, byteCount: UInt64? = nil, backing: Qcow2BackingFile? = nil, options: Qcow2Options = Qcow2Options()
  ) throws(StoreError) {
    var header = try options.header
    header.backingName = backing?.path
    header.backingFormat = backing?.format.rawValue
    let base = try Qcow2Backing(of: header, at: path)
    let size = byteCount ?? base.map { ($0.byteCount + 511) & ~511 } ?? 0
    guard size % 512 == 0, size <= Qcow2Header.largestL1ByteCount / 8 * header.layout.l2ReachByteCount else {
      throw .illegalSize(size)
    }
    header.byteCount = size
    let image = try header.newImage()
    let file = try ImageFile(creating: path)
    try file.write(image, at: 0)
    try file.synchronize()
  }
}

extension Qcow2Options {
  fileprivate var header: Qcow2Header {
    get throws(StoreError) {
      var header = Qcow2Header()
      guard version == 2 || version == 3 else { throw .image(.version(UInt32(clamping: version))) }
      header.version = UInt32(version)
      header.clusterBits = UInt32(clamping: clusterByteCount.trailingZeroBitCount)
      guard Qcow2Header.clusterBits.contains(header.clusterBits), clusterByteCount == 1 << header.clusterBits else {
        throw .image(.header(.clusterBits, value: UInt64(header.clusterBits)))
      }
      header.refcountOrder = UInt32(clamping: refcountBitCount.trailingZeroBitCount)
      guard refcountBitCount == 1 << header.refcountOrder, header.refcountOrder <= 6,
        version == 3 || refcountBitCount == 16
      else { throw .image(.header(.refcountOrder, value: UInt64(header.refcountOrder))) }
      return header
    }
  }
}

extension Qcow2Header {
  /// The bytes of an image that has this header and no data: the header, the refcount table, its blocks, the L1 table.
  fileprivate func newImage() throws(StoreError) -> [UInt8] {
    var header = self
    let entriesPerCluster = layout.entriesPerCluster
    let l1EntryCount = Int((byteCount + layout.l2ReachByteCount - 1) / layout.l2ReachByteCount)
    let l1Clusters = max(1, (l1EntryCount + entriesPerCluster - 1) / entriesPerCluster)
    let perBlock = Int(layout.refcountsPerBlock)
    var (tableClusters, blockCount) = (1, 1)
    while true {
      let blocks = (1 + tableClusters + blockCount + l1Clusters + perBlock - 1) / perBlock
      let clusters = (blocks + entriesPerCluster - 1) / entriesPerCluster
      if blocks <= blockCount, clusters <= tableClusters { break }
      (tableClusters, blockCount) = (max(clusters, tableClusters), max(blocks, blockCount))
    }
    let size = layout.clusterByteCount
    let total = 1 + tableClusters + blockCount + l1Clusters
    header.refcountTableOffset = UInt64(size)
    header.refcountTableClusterCount = UInt32(tableClusters)
    header.l1EntryCount = UInt32(l1EntryCount)
    header.l1Offset = UInt64((1 + tableClusters + blockCount) * size)
    var image = [UInt8](repeating: 0, count: total * size)
    image.replaceSubrange(0..<size, with: try header.firstCluster())
    for block in 0..<blockCount {
      image.setBigEndian(UInt64((1 + tableClusters + block) * size), at: size + block * 8)
    }
    var counts = [UInt8](repeating: 0, count: blockCount * size)
    for cluster in 0..<total { counts.setRefcount(1, at: cluster, order: layout.refcountOrder) }
    image.replaceSubrange((1 + tableClusters) * size..<(1 + tableClusters + blockCount) * size, with: counts)
    return image
  }

  private func firstCluster() throws(StoreError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: layout.clusterByteCount)
    bytes.setBigEndian(Self.magic, at: 0)
    bytes.setBigEndian(version, at: 4)
    bytes.setBigEndian(clusterBits, at: 20)
    bytes.setBigEndian(byteCount, at: 24)
    bytes.setBigEndian(l1EntryCount, at: 36)
    bytes.setBigEndian(l1Offset, at: 40)
    bytes.setBigEndian(refcountTableOffset, at: 48)
    bytes.setBigEndian(refcountTableClusterCount, at: 56)
    if version >= 3 {
      bytes.setBigEndian(refcountOrder, at: 96)
      bytes.setBigEndian(UInt32(Self.versionThreeByteCount), at: 100)
    }
    if let backingName { try setBacking(backingName, in: &bytes) }
    return bytes
  }

  private func setBacking(_ name: String, in bytes: inout [UInt8]) throws(StoreError) {
    var offset = version >= 3 ? Self.versionThreeByteCount : Self.versionTwoByteCount
    let format = Array((backingFormat ?? "").utf8)
    bytes.setBigEndian(Extension.backingFormat, at: offset)
    bytes.setBigEndian(UInt32(format.count), at: offset + 4)
    bytes.replaceSubrange(offset + 8..<offset + 8 + format.count, with: format)
    // The end of the extensions is one that is all zeros.
    offset += 8 + (format.count + 7) & ~7 + 8
    let name = Array(name.utf8)
    guard name.count <= min(Self.largestBackingNameByteCount, bytes.count - offset) else {
      throw .image(.header(.backingFileSize, value: UInt64(name.count)))
    }
    bytes.setBigEndian(UInt64(offset), at: 8)
    bytes.setBigEndian(UInt32(name.count), at: 16)
    bytes.replaceSubrange(offset..<offset + name.count, with: name)
  }
}
