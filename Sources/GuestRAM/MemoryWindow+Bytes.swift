/// Bytes in and out of guest memory, wherever a window's memory has them.
extension MemoryWindow {
  /// Copies guest memory into a part of `bytes`: all of it, or none and an error.
  @inlinable
  @inline(__always)
  public func read(
    into bytes: inout [UInt8], part: Range<Int>, at address: GuestAddress
  ) throws(GuestMemoryError) {
    precondition(part.lowerBound >= 0 && part.upperBound <= bytes.count)
    guard let host = unsafe Self.locate(address, part.count, in: block) else {
      return unsafe try Self.readDivided(into: &bytes, part, address, block)
    }
    unsafe bytes.withUnsafeMutableBytes { bytes in
      guard let base = bytes.baseAddress else { return }
      unsafe (base + part.lowerBound).copyMemory(from: host, byteCount: part.count)
    }
  }

  /// Copies a part of `bytes` into guest memory and marks it in the dirty log: all of it, or none and an error.
  @inlinable
  @inline(__always)
  public func write(
    _ bytes: [UInt8], part: Range<Int>, at address: GuestAddress
  ) throws(GuestMemoryError) {
    precondition(part.lowerBound >= 0 && part.upperBound <= bytes.count)
    guard let host = unsafe Self.locate(address, part.count, in: block) else {
      return unsafe try Self.writeDivided(bytes, part, address, block)
    }
    unsafe bytes.withUnsafeBytes { bytes in
      guard let base = bytes.baseAddress else { return }
      unsafe host.copyMemory(from: base + part.lowerBound, byteCount: part.count)
    }
    unsafe block.pointee.map.log.mark(address.rawValue, part.count)
  }

  /// Copies twelve bytes and a part of `bytes` behind them into guest memory and marks them in the dirty log, if one region
  /// has room for both there; false, and nothing, if not.
  ///
  /// The twelve bytes are stored only where others lie: as long as headers are the same, the processor of whoever reads them
  /// keeps what it has. What is read for that goes nowhere, which is why 2.7.4.2 may be set aside.
  @inlinable
  @inline(__always)
  public func write(
    _ head: (UInt64, UInt32), _ bytes: [UInt8], part: Range<Int>, at address: GuestAddress
  ) -> Bool {
    precondition(part.lowerBound >= 0 && part.upperBound <= bytes.count)
    guard let host = unsafe Self.locate(address, 12 &+ part.count, in: block) else { return false }
    unsafe host.storeIfOther(head.0)
    unsafe (host + 8).storeIfOther(head.1)
    unsafe bytes.withUnsafeBytes { bytes in
      guard let base = bytes.baseAddress else { return }
      unsafe (host + 12).copyMemory(from: base + part.lowerBound, byteCount: part.count)
    }
    unsafe block.pointee.map.log.mark(address.rawValue, 12 &+ part.count)
    return true
  }

  /// Has the processor fetch the ends of a stretch that is about to be used; nothing where there is none.
  @inlinable
  @inline(__always)
  public func touch(_ address: GuestAddress, byteCount: Int) {
    guard byteCount > 0, let host = unsafe Self.locate(address, byteCount, in: block) else { return }
    // Atomic, so that the compiler leaves the loads in although nobody wants their values.
    _ = unsafe host.loadAligned(UInt8.self)
    _ = unsafe (host + (byteCount &- 1)).loadAligned(UInt8.self)
  }

  @usableFromInline
  static func readDivided(
    into bytes: inout [UInt8], _ part: Range<Int>, _ address: GuestAddress, _ block: UnsafeMutablePointer<Block>
  ) throws(GuestMemoryError) {
    var failure: GuestMemoryError?
    unsafe bytes.withUnsafeMutableBytes { bytes in
      do throws(GuestMemoryError) {
        unsafe try block.pointee.map.copyOut(
          UnsafeMutableRawBufferPointer(rebasing: bytes[part]), from: address.rawValue)
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
  }

  @usableFromInline
  static func writeDivided(
    _ bytes: [UInt8], _ part: Range<Int>, _ address: GuestAddress, _ block: UnsafeMutablePointer<Block>
  ) throws(GuestMemoryError) {
    var failure: GuestMemoryError?
    unsafe bytes.withUnsafeBytes { bytes in
      do throws(GuestMemoryError) {
        unsafe try block.pointee.map.copyIn(UnsafeRawBufferPointer(rebasing: bytes[part]), to: address.rawValue)
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
  }
}

extension PairTable {
  /// Copies guest memory anywhere in the table's memory into a part of `bytes`: all of it, or none and an error.
  @inlinable
  @inline(__always)
  public func read(
    into bytes: inout [UInt8], part: Range<Int>, at address: GuestAddress
  ) throws(GuestMemoryError) {
    try window.read(into: &bytes, part: part, at: address)
  }

  /// Copies a part of `bytes` into guest memory anywhere in the table's memory: all of it, or none and an error.
  @inlinable
  @inline(__always)
  public func write(
    _ bytes: [UInt8], part: Range<Int>, at address: GuestAddress
  ) throws(GuestMemoryError) {
    try window.write(bytes, part: part, at: address)
  }

  /// Copies twelve bytes and a part of `bytes` behind them; see `MemoryWindow.write`.
  @inlinable
  @inline(__always)
  public func write(
    _ head: (UInt64, UInt32), _ bytes: [UInt8], part: Range<Int>, at address: GuestAddress
  ) -> Bool {
    window.write(head, bytes, part: part, at: address)
  }

  /// Has the processor fetch what is about to be used; see `MemoryWindow.touch`.
  @inlinable
  @inline(__always)
  public func touch(_ address: GuestAddress, byteCount: Int) {
    window.touch(address, byteCount: byteCount)
  }

  /// Reads both integers of any row; nil when the table has no such row.
  @inlinable
  @inline(__always)
  public func load(at index: UInt16) -> (UInt64, UInt64)? {
    let offset = Int(index) &* Self.rowByteCount
    guard offset < window.length else { return nil }
    let row = unsafe (window.base + offset).loadPairOnce()
    return (UInt64(littleEndian: row.0), UInt64(littleEndian: row.1))
  }
}
