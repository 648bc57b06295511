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
  }

  // SAFETY: `count` entries sorted by start, allocated and freed by the owning GuestMemory.
  @usableFromInline let entries: UnsafeMutablePointer<Entry>
  @usableFromInline let count: Int
  @usableFromInline let log: DirtyBits

  init(entries: UnsafeMutablePointer<Entry>, count: Int, log: DirtyBits) {
    unsafe self.entries = unsafe entries
    unsafe self.count = count
    unsafe self.log = unsafe log
  }

  /// The entry that an address lies in, or nil. Most guests have most of their memory in the first region.
  @inlinable
  @inline(__always)
  func entry(of address: UInt64) -> Entry? {
    let first = unsafe entries[0]
    if unsafe address &- first.start < first.byteCount { return unsafe first }
    return unsafe Self.search(entries, count, for: address)
  }

  @usableFromInline
  static func search(_ entries: UnsafeMutablePointer<Entry>, _ count: Int, for address: UInt64) -> Entry? {
    var low = 0
    var high = count
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
    guard let entry = unsafe entry(of: address) else { return nil }
    let offset = unsafe address &- entry.start
    guard unsafe UInt64(truncatingIfNeeded: byteCount) <= entry.byteCount &- offset else { return nil }
    return unsafe entry.host + Int(truncatingIfNeeded: offset)
  }

  /// Calls `body` with each stretch of host memory that makes up a range, in order; false when part of it is missing.
  ///
  /// Stretches before a missing part have been handed out by then.
  @inlinable
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
    if let host = unsafe host(address, MemoryLayout<T>.size) { return unsafe T(littleEndian: host.loadOnce(T.self)) }
    return unsafe try readDivided(T.self, at: address)
  }

  @inlinable
  @inline(__always)
  func write<T: GuestInteger>(_ value: T, at address: UInt64) throws(GuestMemoryError) {
    if let host = unsafe host(address, MemoryLayout<T>.size) {
      unsafe host.storeOnce(value.littleEndian)
    } else {
      unsafe try writeDivided(value, at: address)
    }
    unsafe log.mark(address, MemoryLayout<T>.size)
  }

  @usableFromInline
  func readDivided<T: GuestInteger>(_: T.Type, at address: UInt64) throws(GuestMemoryError) -> T {
    var value = T.zero
    unsafe try withUnsafeMutableBytes(of: &value) { (bytes) throws(GuestMemoryError) in
      unsafe try copyOut(bytes, from: address)
    }
    return T(littleEndian: value)
  }

  @usableFromInline
  func writeDivided<T: GuestInteger>(_ value: T, at address: UInt64) throws(GuestMemoryError) {
    unsafe try withUnsafeBytes(of: value.littleEndian) { (bytes) throws(GuestMemoryError) in
      unsafe try copyIn(bytes, to: address)
    }
  }

  /// Copies guest memory out; nothing is copied when part of the range is missing.
  @usableFromInline
  func copyOut(_ bytes: UnsafeMutableRawBufferPointer, from address: UInt64) throws(GuestMemoryError) {
    unsafe try check(address, bytes.count)
    guard var target = bytes.baseAddress else { return }
    _ = unsafe forEachPiece(address, bytes.count) { (host, length) in
      unsafe target.copyMemory(from: host, byteCount: length)
      unsafe target += length
    }
  }

  /// Copies into guest memory and marks it written; nothing is copied when part of the range is missing.
  @usableFromInline
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
  @usableFromInline
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
