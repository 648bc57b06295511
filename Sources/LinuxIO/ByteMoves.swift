/// Copies between arrays, and within one, as fast as memory goes and without an allocation.
extension [UInt8] {
  /// Copies a part of `other` to a place in these bytes; both must be there.
  @inlinable
  public mutating func copy(_ part: Range<Int>, of other: [UInt8], to offset: Int) {
    precondition(part.lowerBound >= 0 && part.upperBound <= other.count)
    precondition(offset >= 0 && offset <= count && part.count <= count - offset)
    var target = mutableSpan
    unsafe target.withUnsafeMutableBytes { (target) in
      unsafe other.span.withUnsafeBytes { (source) in
        guard let start = target.baseAddress, let from = source.baseAddress else { return }
        unsafe (start + offset).copyMemory(from: from + part.lowerBound, byteCount: part.count)
      }
    }
  }

  /// Reads a little-endian integer in one load, wherever it lies; all of it must be there.
  @inlinable
  @inline(__always)
  public func littleEndian<T: FixedWidthInteger & BitwiseCopyable>(_: T.Type, at offset: Int) -> T {
    precondition(offset >= 0 && offset <= count &- MemoryLayout<T>.size)
    return unsafe span.withUnsafeBytes { unsafe T(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: T.self)) }
  }

  /// Writes a little-endian integer in one store, wherever it lies; all of it must have room.
  @inlinable
  @inline(__always)
  public mutating func setLittleEndian<T: FixedWidthInteger & BitwiseCopyable>(_ value: T, at offset: Int) {
    precondition(offset >= 0 && offset <= count &- MemoryLayout<T>.size)
    var span = mutableSpan
    unsafe span.withUnsafeMutableBytes {
      unsafe $0.storeBytes(of: value.littleEndian, toByteOffset: offset, as: T.self)
    }
  }

  /// Copies a part of these bytes to another place in them, which may overlap it.
  public mutating func copyWithin(_ part: Range<Int>, to offset: Int) {
    precondition(part.lowerBound >= 0 && part.upperBound <= count)
    precondition(offset >= 0 && part.count <= count - offset)
    var span = mutableSpan
    unsafe span.withUnsafeMutableBytes { (buffer) in
      guard let start = buffer.baseAddress else { return }
      unsafe (start + offset).copyMemory(from: start + part.lowerBound, byteCount: part.count)
    }
  }
}

/// Loads from lent bytes, as fast as memory goes.
extension Span<UInt8> {
  /// Reads a little-endian integer in one load, wherever it lies; all of it must be there.
  @inlinable
  @inline(__always)
  public func littleEndian<T: FixedWidthInteger & BitwiseCopyable>(_: T.Type, at offset: Int) -> T {
    precondition(offset >= 0 && offset <= count &- MemoryLayout<T>.size)
    return unsafe withUnsafeBytes { unsafe T(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: T.self)) }
  }
}

/// Loads, stores and copies within lent bytes, as fast as memory goes and without an allocation.
extension MutableSpan<UInt8> {
  /// Reads a little-endian integer in one load, wherever it lies; all of it must be there.
  @inlinable
  @inline(__always)
  public func littleEndian<T: FixedWidthInteger & BitwiseCopyable>(_: T.Type, at offset: Int) -> T {
    precondition(offset >= 0 && offset <= count &- MemoryLayout<T>.size)
    return unsafe withUnsafeBytes { unsafe T(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: T.self)) }
  }

  /// Writes a little-endian integer in one store, wherever it lies; all of it must have room.
  @inlinable
  @inline(__always)
  public mutating func setLittleEndian<T: FixedWidthInteger & BitwiseCopyable>(_ value: T, at offset: Int) {
    precondition(offset >= 0 && offset <= count &- MemoryLayout<T>.size)
    unsafe withUnsafeMutableBytes { unsafe $0.storeBytes(of: value.littleEndian, toByteOffset: offset, as: T.self) }
  }

  /// Copies a part of `other` to a place in these bytes; both must be there.
  @inlinable
  public mutating func copy(_ part: Range<Int>, of other: Span<UInt8>, to offset: Int) {
    precondition(part.lowerBound >= 0 && part.upperBound <= other.count)
    precondition(offset >= 0 && offset <= count && part.count <= count - offset)
    unsafe withUnsafeMutableBytes { (target) in
      unsafe other.withUnsafeBytes { (source) in
        guard let start = target.baseAddress, let from = source.baseAddress else { return }
        unsafe (start + offset).copyMemory(from: from + part.lowerBound, byteCount: part.count)
      }
    }
  }

  /// Sets a part of these bytes, which must be there, to zeros.
  @inlinable
  public mutating func clear(_ part: Range<Int>) {
    precondition(part.lowerBound >= 0 && part.upperBound <= count)
    unsafe withUnsafeMutableBytes { (bytes) in
      guard let start = bytes.baseAddress else { return }
      unsafe (start + part.lowerBound).initializeMemory(as: UInt8.self, repeating: 0, count: part.count)
    }
  }
}
