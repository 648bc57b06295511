public import Synchronization

/// The trivial view of a memory map that every access goes through: which host address a guest address has.
///
/// It owns nothing. Whoever holds one keeps the `GuestMemory` it came from.
@unsafe
@usableFromInline
struct GuestMap {
  @unsafe
  @usableFromInline
  struct Entry {
    @usableFromInline let start: UInt64
    @usableFromInline let byteCount: UInt64
    // SAFETY: `byteCount` bytes mapped by a region that the owning GuestMemory keeps.
    @usableFromInline let host: UnsafeMutableRawPointer

    init(start: UInt64, byteCount: UInt64, host: UnsafeMutableRawPointer) {
      unsafe self.start = start
      unsafe self.byteCount = byteCount
      unsafe self.host = unsafe host
    }

    /// Where a range stands that lies in this entry.
    @inlinable
    @inline(__always)
    func host(_ address: UInt64, _ byteCount: Int) -> UnsafeMutableRawPointer? {
      let offset = unsafe address &- start
      guard unsafe offset < self.byteCount,
        unsafe UInt64(truncatingIfNeeded: byteCount) <= self.byteCount &- offset
      else { return nil }
      return unsafe host + Int(truncatingIfNeeded: offset)
    }
  }

  /// What every access looks at, all in one place.
  @unsafe
  @usableFromInline
  struct Table {
    /// A copy of `entries[0]`: most guests have most of their memory in the first region.
    @usableFromInline let first: Entry
    /// An integer that starts less than so many bytes into `first` lies in it, however wide: one comparison, and not two.
    @usableFromInline let integerLimit: UInt64
    // SAFETY: `count` entries sorted by start, allocated and freed with the table.
    let entries: UnsafeMutablePointer<Entry>
    let count: Int
    @usableFromInline let log: DirtyBits
  }

  // SAFETY: allocated in init, freed by the owning GuestMemory through `deallocate`; nothing writes it in between.
  @usableFromInline let table: UnsafeMutablePointer<Table>

  /// - Parameter entries: sorted by start, at least one; the map takes them over.
  init(entries: UnsafeMutablePointer<Entry>, count: Int, log: DirtyBits) {
    unsafe table = .allocate(capacity: 1)
    let byteCount = unsafe entries[0].byteCount
    unsafe table.initialize(
      to: Table(
        first: entries[0], integerLimit: byteCount < 8 ? 0 : byteCount - 7, entries: entries, count: count, log: log))
  }

  func deallocate() {
    unsafe table.pointee.entries.deallocate()
    unsafe table.deallocate()
  }

  @inlinable
  @inline(__always)
  var log: DirtyBits { unsafe table.pointee.log }

  /// The entry that an address lies in, or nil.
  func entry(of address: UInt64) -> Entry? {
    let first = unsafe table.pointee.first
    if unsafe address &- first.start < first.byteCount { return unsafe first }
    let entries = unsafe table.pointee.entries
    var low = 0
    var high = unsafe table.pointee.count
    while low < high {
      let middle = (low + high) / 2
      if unsafe entries[middle].start <= address { low = middle + 1 } else { high = middle }
    }
    guard low > 0 else { return nil }
    let entry = unsafe entries[low - 1]
    return unsafe address &- entry.start < entry.byteCount ? entry : nil
  }

  /// Where a range stands in this process when one region has all of it.
  @inlinable
  @inline(__always)
  func host(_ address: UInt64, _ byteCount: Int) -> UnsafeMutableRawPointer? {
    let first = unsafe table.pointee.first
    if let host = unsafe first.host(address, byteCount) { return unsafe host }
    return unsafe hostAnywhere(address, byteCount)
  }

  /// Where an integer stands in this process when the first region has all of it, and all of eight bytes in its place.
  @inlinable
  @inline(__always)
  func hostOfInteger(_ address: UInt64) -> UnsafeMutableRawPointer? {
    let offset = unsafe address &- table.pointee.first.start
    guard unsafe _fastPath(offset < table.pointee.integerLimit) else { return nil }
    return unsafe table.pointee.first.host + Int(truncatingIfNeeded: offset)
  }

  @usableFromInline
  func hostAnywhere(_ address: UInt64, _ byteCount: Int) -> UnsafeMutableRawPointer? {
    unsafe entry(of: address)?.host(address, byteCount)
  }

  /// Calls `body` with each stretch of host memory that makes up a range, in order; false when part of it is missing.
  ///
  /// Stretches before a missing part have been handed out by then.
  func forEachPiece<E: Error>(
    _ address: UInt64, _ byteCount: Int, _ body: (UnsafeMutableRawPointer, Int) throws(E) -> Void
  ) throws(E) -> Bool {
    var address = address
    var left = byteCount
    while left > 0 {
      guard let entry = unsafe entry(of: address) else { return false }
      let offset = unsafe address &- entry.start
      let length = unsafe Int(min(UInt64(left), entry.byteCount &- offset))
      unsafe try body(entry.host + Int(truncatingIfNeeded: offset), length)
      left -= length
      address = address &+ UInt64(length)
    }
    return true
  }
}

extension GuestMap {
  @inlinable
  @inline(__always)
  func read<T: GuestInteger>(_: T.Type, at address: UInt64) throws(GuestMemoryError) -> T {
    guard let host = unsafe hostOfInteger(address) else {
      return unsafe try T(truncatingIfNeeded: readAnywhere(MemoryLayout<T>.size, at: address))
    }
    return unsafe T(littleEndian: host.loadOnce(T.self))
  }

  @inlinable
  @inline(__always)
  func write<T: GuestInteger>(_ value: T, at address: UInt64) throws(GuestMemoryError) {
    guard let host = unsafe hostOfInteger(address) else {
      return unsafe try writeAnywhere(UInt64(truncatingIfNeeded: value), MemoryLayout<T>.size, at: address)
    }
    unsafe host.storeOnce(value.littleEndian)
    unsafe log.mark(address, MemoryLayout<T>.size)
  }

  /// Reads an integer of 1, 2, 4 or 8 bytes wherever it lies, once where one region has all of it.
  @usableFromInline
  func readAnywhere(_ byteCount: Int, at address: UInt64) throws(GuestMemoryError) -> UInt64 {
    guard let host = unsafe hostAnywhere(address, byteCount) else {
      return unsafe try readDivided(byteCount, at: address)
    }
    switch byteCount {
    case 1: return unsafe UInt64(host.loadOnce(UInt8.self))
    case 2: return unsafe UInt64(UInt16(littleEndian: host.loadOnce(UInt16.self)))
    case 4: return unsafe UInt64(UInt32(littleEndian: host.loadOnce(UInt32.self)))
    default: return unsafe UInt64(littleEndian: host.loadOnce(UInt64.self))
    }
  }

  /// Writes an integer of 1, 2, 4 or 8 bytes wherever it lies, and marks it.
  @usableFromInline
  func writeAnywhere(_ value: UInt64, _ byteCount: Int, at address: UInt64) throws(GuestMemoryError) {
    guard let host = unsafe hostAnywhere(address, byteCount) else {
      return unsafe try writeDivided(value, byteCount, at: address)
    }
    switch byteCount {
    case 1: unsafe host.storeOnce(UInt8(truncatingIfNeeded: value))
    case 2: unsafe host.storeOnce(UInt16(truncatingIfNeeded: value).littleEndian)
    case 4: unsafe host.storeOnce(UInt32(truncatingIfNeeded: value).littleEndian)
    default: unsafe host.storeOnce(value.littleEndian)
    }
    unsafe log.mark(address, byteCount)
  }

  private func readDivided(_ byteCount: Int, at address: UInt64) throws(GuestMemoryError) -> UInt64 {
    var value: UInt64 = 0
    unsafe try withUnsafeMutableBytes(of: &value) { (bytes) throws(GuestMemoryError) in
      unsafe try copyOut(UnsafeMutableRawBufferPointer(rebasing: bytes.prefix(byteCount)), from: address)
    }
    return UInt64(littleEndian: value)
  }

  private func writeDivided(_ value: UInt64, _ byteCount: Int, at address: UInt64) throws(GuestMemoryError) {
    unsafe try withUnsafeBytes(of: value.littleEndian) { (bytes) throws(GuestMemoryError) in
      unsafe try copyIn(UnsafeRawBufferPointer(rebasing: bytes.prefix(byteCount)), to: address)
    }
  }

  /// Copies guest memory out; nothing is copied when part of the range is missing.
  func copyOut(_ bytes: UnsafeMutableRawBufferPointer, from address: UInt64) throws(GuestMemoryError) {
    unsafe try check(address, bytes.count)
    guard var target = bytes.baseAddress else { return }
    _ = unsafe forEachPiece(address, bytes.count) { (host, length) in
      unsafe target.copyMemory(from: host, byteCount: length)
      unsafe target += length
    }
  }

  /// Copies into guest memory and marks it written; nothing is copied when part of the range is missing.
  func copyIn(_ bytes: UnsafeRawBufferPointer, to address: UInt64) throws(GuestMemoryError) {
    unsafe try check(address, bytes.count)
    guard var source = bytes.baseAddress else { return }
    _ = unsafe forEachPiece(address, bytes.count) { (host, length) in
      unsafe host.copyMemory(from: source, byteCount: length)
      unsafe source += length
    }
    unsafe log.mark(address, bytes.count)
  }

  /// Refuses a range of which any byte is not guest memory.
  func check(_ address: UInt64, _ byteCount: Int) throws(GuestMemoryError) {
    guard byteCount >= 0, unsafe forEachPiece(address, byteCount, { (_, _) throws(Never) in }) else {
      throw .outside(GuestRange(start: GuestAddress(address), byteCount: UInt64(max(0, byteCount))))
    }
  }
}

extension UnsafeMutableRawPointer {
  /// Reads an integer exactly once, so that what was checked is what is used: the guest may write at any time.
  @inlinable
  @inline(__always)
  func loadOnce<T: GuestInteger>(_: T.Type) -> T {
    guard UInt(bitPattern: self) & UInt(MemoryLayout<T>.size - 1) == 0 else {
      return unsafe loadUnaligned(as: T.self)
    }
    return unsafe loadAligned(T.self)
  }

  /// `loadOnce` where the address is known to be a multiple of the integer's size.
  @inlinable
  @inline(__always)
  func loadAligned<T: GuestInteger>(_: T.Type) -> T {
    switch MemoryLayout<T>.size {
    case 1: return unsafe T(truncatingIfNeeded: atomic(UInt8.self).pointee.load(ordering: .relaxed))
    case 2: return unsafe T(truncatingIfNeeded: atomic(UInt16.self).pointee.load(ordering: .relaxed))
    case 4: return unsafe T(truncatingIfNeeded: atomic(UInt32.self).pointee.load(ordering: .relaxed))
    default: return unsafe T(truncatingIfNeeded: atomic(UInt64.self).pointee.load(ordering: .relaxed))
    }
  }

  /// Reads two integers that follow each other, each exactly once.
  @inlinable
  @inline(__always)
  func loadPairOnce() -> (UInt64, UInt64) {
    guard UInt(bitPattern: self) & 7 == 0 else {
      return unsafe (loadUnaligned(as: UInt64.self), loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    }
    return unsafe (loadAligned(UInt64.self), (self + 8).loadAligned(UInt64.self))
  }

  /// Writes an integer whole where it is aligned: no reader sees half of it.
  @inlinable
  @inline(__always)
  func storeOnce<T: GuestInteger>(_ value: T) {
    guard UInt(bitPattern: self) & UInt(MemoryLayout<T>.size - 1) == 0 else {
      return unsafe storeBytes(of: value, as: T.self)
    }
    unsafe storeAligned(value)
  }

  /// Writes an integer unless it is there already.
  @inlinable
  @inline(__always)
  func storeIfOther<T: GuestInteger>(_ value: T) {
    if unsafe loadOnce(T.self) != value.littleEndian { unsafe storeOnce(value.littleEndian) }
  }

  /// `storeOnce` where the address is known to be a multiple of the integer's size.
  @inlinable
  @inline(__always)
  func storeAligned<T: GuestInteger>(_ value: T) {
    switch MemoryLayout<T>.size {
    case 1: unsafe atomic(UInt8.self).pointee.store(UInt8(truncatingIfNeeded: value), ordering: .relaxed)
    case 2: unsafe atomic(UInt16.self).pointee.store(UInt16(truncatingIfNeeded: value), ordering: .relaxed)
    case 4: unsafe atomic(UInt32.self).pointee.store(UInt32(truncatingIfNeeded: value), ordering: .relaxed)
    default: unsafe atomic(UInt64.self).pointee.store(UInt64(truncatingIfNeeded: value), ordering: .relaxed)
    }
  }

  /// This address as an atomic integer; it must be a multiple of the integer's size.
  @inlinable
  @inline(__always)
  func atomic<T: AtomicRepresentable>(_: T.Type) -> UnsafeMutablePointer<Atomic<T>> {
    unsafe assumingMemoryBound(to: Atomic<T>.self)
  }
}
