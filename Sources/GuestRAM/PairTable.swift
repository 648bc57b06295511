/// A table in guest memory whose rows are two little-endian 64-bit integers, read row by row: a descriptor table.
///
/// It stands on one row at a time. The way to a row is what is checked, so that reading it needs no check again.
@safe public struct PairTable: ~Copyable {
  /// The bytes of a row.
  @inlinable
  public static var rowByteCount: Int { 16 }

  @usableFromInline var window: MemoryWindow
  // SAFETY: a row that lay inside `window` when it was gone to; the block of `window` keeps all of that memory mapped.
  @usableFromInline var row: UnsafeMutableRawPointer

  /// A table that takes up a whole window; it stands on row 0. Part of a row at the window's end is the caller's mistake.
  public init(_ window: consuming MemoryWindow) {
    precondition(window.length > 0 && window.length % Self.rowByteCount == 0)
    unsafe row = unsafe window.base
    self.window = window
  }

  @inlinable
  @inline(__always)
  init(_ window: consuming MemoryWindow, row: UnsafeMutableRawPointer) {
    self.window = window
    unsafe self.row = unsafe row
  }
}

extension PairTable {
  /// The bytes of all its rows.
  @inlinable
  @inline(__always)
  public var byteCount: Int { window.length }

  /// How many rows the table has.
  @inlinable
  public var count: Int { window.length / Self.rowByteCount }

  /// The same table, standing on another row; nil when it has no such row.
  @inlinable
  @inline(__always)
  public func share(at index: UInt16) -> PairTable? {
    let offset = Int(index) &* Self.rowByteCount
    guard offset < window.length else { return nil }
    return unsafe PairTable(window.share(), row: window.base + offset)
  }

  /// Goes to another row; false, and nowhere, when the table has no such row.
  @inlinable
  @inline(__always)
  public mutating func go(to index: UInt16) -> Bool {
    let offset = Int(index) &* Self.rowByteCount
    guard offset < window.length else { return false }
    unsafe row = unsafe window.base + offset
    return true
  }

  /// Goes to row 0 of a table elsewhere in the same memory. Part of a row at its end is the caller's mistake.
  @inlinable
  @inline(__always)
  public mutating func move(to address: GuestAddress, byteCount: Int) throws(GuestMemoryError) {
    precondition(byteCount > 0 && byteCount % Self.rowByteCount == 0)
    try window.move(to: address, byteCount: byteCount)
    unsafe row = unsafe window.base
  }

  /// Reads both integers of the row, each once.
  @inlinable
  @inline(__always)
  public func load() -> (UInt64, UInt64) {
    let row = unsafe row.loadPairOnce()
    return (UInt64(littleEndian: row.0), UInt64(littleEndian: row.1))
  }

  /// Reads a little-endian integer anywhere in the memory that the table lies in.
  @inlinable
  @inline(__always)
  public func read<T: GuestInteger>(_: T.Type, at address: GuestAddress) throws(GuestMemoryError) -> T {
    try window.read(T.self, at: address)
  }

  /// Writes a little-endian integer anywhere in the memory that the table lies in.
  @inlinable
  @inline(__always)
  public func write<T: GuestInteger>(_ value: T, at address: GuestAddress) throws(GuestMemoryError) {
    try window.write(value, at: address)
  }
}
