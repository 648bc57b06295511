import LinuxIO

/// A guest's memory: the regions that its addresses lead to, and the only way to reach them.
///
/// The map never changes; a new memory table is a new value. Every access is checked against it, so an address that a
/// guest made up is an error and not a crash. Whatever is stored is marked in the dirty log if the map has one.
@safe public final class GuestMemory: Sendable {
  /// The most regions that a map may have.
  public static let mostRegions = 512

  /// The regions in rising order of address.
  public let regions: [MemoryRegion]
  /// Where stores are marked, or nil.
  public let dirtyLog: DirtyLog?

  // SAFETY: its table is allocated in init and freed in deinit; its entries point into mappings that `regions` keeps, and
  // its dirty bits into `dirtyLog`. Nothing writes it in between.
  @usableFromInline nonisolated(unsafe) let map: GuestMap

  /// A map of one to 512 regions that do not overlap.
  ///
  /// - Parameter dirtyLog: marks every store; must cover all regions.
  public init(regions: [MemoryRegion], dirtyLog: DirtyLog? = nil) throws(GuestMemoryError) {
    let regions = regions.sorted { $0.range.start < $1.range.start }
    try GuestMemory.check(regions, dirtyLog)
    self.regions = regions
    self.dirtyLog = dirtyLog
    let entries = UnsafeMutablePointer<GuestMap.Entry>.allocate(capacity: regions.count)
    for (index, region) in regions.enumerated() {
      unsafe (entries + index).initialize(
        to: GuestMap.Entry(
          start: region.range.start.rawValue, byteCount: region.range.byteCount,
          host: region.mapping.base + region.mappingOffset))
    }
    unsafe map = unsafe GuestMap(entries: entries, count: regions.count, log: dirtyLog?.bits ?? .off)
  }

  /// One shared region from guest address 0, in a memfd of its own.
  public convenience init(byteCount: UInt64, hugePages: Bool = false) throws(GuestMemoryError) {
    try self.init(regions: [MemoryRegion(memoryFile: byteCount, start: GuestAddress(0), hugePages: hugePages)])
  }

  /// The same memory with another dirty log, or with none.
  public func with(dirtyLog: DirtyLog?) throws(GuestMemoryError) -> GuestMemory {
    try GuestMemory(regions: regions, dirtyLog: dirtyLog)
  }

  deinit {
    unsafe map.deallocate()
  }

  /// The memory's size in bytes: the sum of its regions.
  public var byteCount: UInt64 {
    regions.reduce(0) { $0 + $1.range.byteCount }
  }

  private static func check(_ regions: [MemoryRegion], _ log: DirtyLog?) throws(GuestMemoryError) {
    guard let last = regions.last?.range else { throw .noRegions }
    guard regions.count <= mostRegions else { throw .tooManyRegions(regions.count, most: mostRegions) }
    for (region, next) in zip(regions, regions.dropFirst())
    where next.range.start.rawValue - region.range.start.rawValue < region.range.byteCount {
      throw .overlap(region.range, next.range)
    }
    let pages = (last.start.rawValue + (last.byteCount - 1)) / UInt64(DirtyLog.pageByteCount) + 1
    if let log, log.pageCount < pages { throw .logTooShort(pages: log.pageCount, needed: pages) }
  }
}

extension GuestMemory {
  /// Reads a little-endian integer once; what is returned cannot change any more.
  @inlinable
  public func read<T: GuestInteger>(_: T.Type, at address: GuestAddress) throws(GuestMemoryError) -> T {
    unsafe try map.read(T.self, at: address.rawValue)
  }

  /// Writes a little-endian integer, whole where its address is a multiple of its size.
  @inlinable
  public func write<T: GuestInteger>(_ value: T, at address: GuestAddress) throws(GuestMemoryError) {
    unsafe try map.write(value, at: address.rawValue)
  }

  /// Copies `count` bytes out of guest memory. The caller bounds `count`.
  public func readBytes(_ count: Int, at address: GuestAddress) throws(GuestMemoryError) -> [UInt8] {
    unsafe try map.check(address.rawValue, count)
    var bytes = [UInt8](repeating: 0, count: count)
    try read(into: &bytes, at: address)
    return bytes
  }

  /// Fills all of `bytes` from guest memory.
  public func read(into bytes: inout [UInt8], at address: GuestAddress) throws(GuestMemoryError) {
    var failure: GuestMemoryError?
    unsafe bytes.withUnsafeMutableBytes { bytes in
      do throws(GuestMemoryError) {
        unsafe try map.copyOut(bytes, from: address.rawValue)
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
  }

  /// Copies bytes into guest memory: all of them, or none and an error.
  public func write(bytes: [UInt8], at address: GuestAddress) throws(GuestMemoryError) {
    var failure: GuestMemoryError?
    unsafe bytes.withUnsafeBytes { bytes in
      do throws(GuestMemoryError) {
        unsafe try map.copyIn(bytes, to: address.rawValue)
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
  }

  /// Copies a range, which others may be writing, into other guest memory: all of it, or none and an error.
  public func copy(_ range: GuestRange, to other: GuestMemory, at address: GuestAddress) throws(GuestMemoryError) {
    try check(range)
    let byteCount = Int(range.byteCount)
    unsafe try other.map.check(address.rawValue, byteCount)
    var target = address.rawValue
    _ = unsafe try map.forEachPiece(range.start.rawValue, byteCount) { (host, length) throws(GuestMemoryError) in
      unsafe try other.map.copyIn(UnsafeRawBufferPointer(start: host, count: length), to: target)
      target += UInt64(length)
    }
  }

  /// Throws unless every byte of the range is guest memory.
  public func check(_ range: GuestRange) throws(GuestMemoryError) {
    guard range.byteCount <= UInt64(Int.max) else { throw .outside(range) }
    unsafe try map.check(range.start.rawValue, Int(range.byteCount))
  }
}
