/// The entries of a ring that is read: a power of two of little-endian 16-bit integers behind a header.
///
/// Every index is taken modulo their number, as a ring's free-running index is, so none lies outside.
@safe public struct NumberRing: ~Copyable {
  /// The window that the ring takes up, for its header and what follows its entries.
  public let window: MemoryWindow
  // SAFETY: `mask` + 1 aligned entries, which lie inside `window`.
  @usableFromInline let entries: UnsafeMutableRawPointer
  @usableFromInline let mask: UInt16

  /// The `count` entries that start `offset` bytes into a window. A window that is too short or not aligned for them, or
  /// a count that is no power of two, is the caller's mistake.
  public init(_ window: consuming MemoryWindow, at offset: Int, count: UInt16) {
    let first = unsafe window.entries(at: offset, count: count, byteCount: 2, alignment: 2)
    unsafe entries = unsafe first
    mask = count - 1
    self.window = window
  }

  /// Reads an entry once.
  @inlinable
  @inline(__always)
  public subscript(index: UInt16) -> UInt16 {
    unsafe UInt16(littleEndian: (entries + Int(index & mask) &* 2).loadAligned(UInt16.self))
  }
}

/// The entries of a ring that is written: a power of two of pairs of little-endian 32-bit integers behind a header.
@safe public struct PairRing: ~Copyable {
  /// The window that the ring takes up, for its header and what follows its entries.
  public let window: MemoryWindow
  // SAFETY: `mask` + 1 pairs of aligned integers, which lie inside `window`.
  @usableFromInline let entries: UnsafeMutableRawPointer
  @usableFromInline let markAddress: UInt64
  @usableFromInline let mask: UInt16
  /// Whether there is a dirty log: asked here, since each entry would ask.
  public let isMarked: Bool

  /// As for `NumberRing`.
  public init(_ window: consuming MemoryWindow, at offset: Int, count: UInt16) {
    let first = unsafe window.entries(at: offset, count: count, byteCount: 8, alignment: 4)
    unsafe entries = unsafe first
    markAddress = window.markAddress &+ UInt64(offset)
    isMarked = unsafe window.block.pointee.map.log.isOn
    mask = count - 1
    self.window = window
  }

  /// Reads an entry back.
  public func load(at index: UInt16) -> (UInt32, UInt32) {
    let entry = unsafe entries + Int(index & mask) &* 8
    return unsafe (
      UInt32(littleEndian: entry.loadAligned(UInt32.self)), UInt32(littleEndian: (entry + 4).loadAligned(UInt32.self))
    )
  }

  /// Writes an entry and marks it in the dirty log.
  @inlinable
  @inline(__always)
  public func store(_ first: UInt32, _ second: UInt32, at index: UInt16) {
    storeUnmarked(first, second, at: index)
    if isMarked { mark(Int(index & mask) &* 8) }
  }

  /// Writes an entry of a ring for which there is no dirty log.
  @inlinable
  @inline(__always)
  public func storeUnmarked(_ first: UInt32, _ second: UInt32, at index: UInt16) {
    let offset = Int(index & mask) &* 8
    let entry = UInt64(second) &<< 32 | UInt64(first)
    // One store and not two: each has to wait in line for the driver's processor to let go of the ring.
    unsafe entries.storeBytes(of: entry.littleEndian, toByteOffset: offset, as: UInt64.self)
  }

  @usableFromInline
  func mark(_ offset: Int) {
    unsafe window.block.pointee.map.log.mark(markAddress &+ UInt64(truncatingIfNeeded: offset), 8)
  }
}

extension MemoryWindow {
  fileprivate func entries(at offset: Int, count: UInt16, byteCount: Int, alignment: UInt) -> UnsafeMutableRawPointer {
    precondition(count != 0 && count & (count - 1) == 0)
    precondition(offset >= 0 && offset + Int(count) * byteCount <= length)
    let first = unsafe base + offset
    precondition(UInt(bitPattern: first) & (alignment - 1) == 0)
    return unsafe first
  }
}
