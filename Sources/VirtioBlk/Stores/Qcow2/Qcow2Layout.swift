/// The numbers that follow from an image's cluster size, and the meaning of L2 entries.
struct Qcow2Layout: Equatable, Sendable {
  /// Bits 9 to 55 of an entry: where in the file something is.
  static let offsetMask: UInt64 = 0x00FF_FFFF_FFFF_FE00
  /// Set in an L1 or L2 entry: nobody else refers to what it leads to.
  static let isOwn: UInt64 = 1 << 63
  static let isCompressed: UInt64 = 1 << 62
  static let readsAsZeros: UInt64 = 1

  let version: UInt32
  let clusterBits: UInt64
  let refcountOrder: UInt64

  init(version: UInt32, clusterBits: UInt32, refcountOrder: UInt32) {
    self.version = version
    self.clusterBits = UInt64(clusterBits)
    self.refcountOrder = UInt64(refcountOrder)
  }

  var clusterByteCount: Int { 1 << Int(clusterBits) }
  var clusterMask: UInt64 { UInt64(clusterByteCount) - 1 }
  /// Entries of an L2 table, or of a cluster of any other table of offsets.
  var entriesPerCluster: Int { clusterByteCount / 8 }
  /// How much of the disk an L2 table describes.
  var l2ReachByteCount: UInt64 { UInt64(entriesPerCluster) << clusterBits }
  /// How many clusters a block of refcounts describes.
  var refcountsPerBlock: UInt64 { (UInt64(clusterByteCount) * 8) >> refcountOrder }
  /// Clusters from here on cannot be told in an entry.
  var clusterLimit: UInt64 { 1 << (56 - clusterBits) }

  func roundedUp(_ byteCount: UInt64) -> UInt64 {
    let (sum, overflow) = byteCount.addingReportingOverflow(clusterMask)
    return overflow ? .max & ~clusterMask : sum & ~clusterMask
  }

  /// The clusters that a range of the file touches, which does not reach the end of all numbers.
  func clusters(_ offset: UInt64, _ byteCount: UInt64) -> Range<UInt64> {
    let first = offset >> clusterBits
    return first..<max(first, roundedUp(offset + byteCount) >> clusterBits)
  }

  func l1Index(_ place: UInt64) -> Int { Int(place / l2ReachByteCount) }

  func l2Index(_ place: UInt64) -> Int { Int(place >> clusterBits) % entriesPerCluster }

  /// What an L2 entry says; nil when it cannot be one. That what it leads to is in the file is not checked.
  func meaning(of entry: UInt64) -> Qcow2Mapping? {
    if entry & Self.isCompressed != 0 { return compressed(entry) }
    let host = entry & Self.offsetMask
    let flags = entry & ~Self.offsetMask
    guard host & clusterMask == 0 else { return nil }
    switch flags & ~Self.isOwn {
    case 0:
      if host == 0 { return flags == 0 ? .unallocated : nil }
      return .data(host, isOwn: flags & Self.isOwn != 0)
    case Self.readsAsZeros where version >= 3:
      guard host != 0 || flags & Self.isOwn == 0 else { return nil }
      return .zeros(host)
    default: return nil
    }
  }

  private func compressed(_ entry: UInt64) -> Qcow2Mapping? {
    let offsetBits = 62 - (clusterBits - 8)
    let offset = entry & ((1 << offsetBits) - 1)
    guard entry & Self.isOwn == 0, offset < 1 << 56 else { return nil }
    let sectorCount = (entry & (Self.isCompressed - 1)) >> offsetBits + 1
    return .compressed(offset, byteCount: Int(sectorCount) * 512 - Int(offset & 511))
  }
}

/// What an L2 entry says about a cluster of the disk.
enum Qcow2Mapping: Equatable, Sendable {
  case unallocated
  /// A cluster may be set aside for it, at an offset that is not 0.
  case zeros(UInt64)
  case data(UInt64, isOwn: Bool)
  case compressed(UInt64, byteCount: Int)
}
