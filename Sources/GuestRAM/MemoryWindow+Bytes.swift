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
}
