import LinuxIO

/// What pages hold, found fast: all zeros or not, and a digest to compare.
///
/// Reading a hole of a memory file fills it with a page of zeros, so look only at what `residentRanges` names.
extension GuestMemory {
  /// Whether every byte of the range is zero. The range lies in one region.
  public func isZero(_ range: GuestRange) throws(GuestMemoryError) -> Bool {
    unsafe PageScan.isZero(try bytes(of: range))
  }

  /// How many 4 KiB pages at the start of a range are like the first: all zeros, or not. The range consists of at least one
  /// whole page and lies in one region.
  public func leadingPages(of range: GuestRange) throws(GuestMemoryError) -> (count: Int, areZero: Bool) {
    let bytes = unsafe try bytes(of: range)
    guard let base = bytes.baseAddress, range.byteCount % 4096 == 0 else {
      throw .unaligned(range.start, multipleOf: 4096)
    }
    func isZero(_ page: Int) -> Bool {
      unsafe PageScan.isZero(UnsafeRawBufferPointer(start: base + page * 4096, count: 4096))
    }
    let (areZero, pageCount) = (isZero(0), Int(range.byteCount / 4096))
    var count = 1
    while count < pageCount, isZero(count) == areZero { count += 1 }
    return (count, areZero)
  }

  /// Appends the digest of each 4 KiB page of the range. The range consists of whole pages of one region.
  public func appendPageDigests(of range: GuestRange, to digests: inout [UInt64]) throws(GuestMemoryError) {
    guard let host = unsafe map.host(range.start.rawValue, Int(clamping: range.byteCount)) else {
      throw .outside(range)
    }
    guard range.start.rawValue % 4096 == 0, range.byteCount % 4096 == 0 else {
      throw .unaligned(range.start, multipleOf: 4096)
    }
    for offset in stride(from: 0, to: Int(range.byteCount), by: 4096) {
      unsafe digests.append(PageScan.digest(UnsafeRawBufferPointer(start: host + offset, count: 4096)))
    }
  }

  /// The digest of bytes that are not guest memory, by the same function.
  public static func digest(of bytes: [UInt8]) -> UInt64 {
    unsafe bytes.withUnsafeBytes { unsafe PageScan.digest($0) }
  }

  /// A 64-bit digest of the range's bytes that tells two pages apart, though not against somebody who wants them to
  /// seem alike. The range lies in one region.
  public func digest(_ range: GuestRange) throws(GuestMemoryError) -> UInt64 {
    unsafe PageScan.digest(try bytes(of: range))
  }

  /// Lends the range's bytes. It lies in one region, and nobody writes it meanwhile.
  func withBytes<Result>(
    of range: GuestRange, _ body: (Span<UInt8>) throws(GuestMemoryError) -> Result
  ) throws(GuestMemoryError) -> Result {
    let bytes = unsafe try bytes(of: range)
    return try body(unsafe Span(_unsafeBytes: bytes))
  }

  private func bytes(of range: GuestRange) throws(GuestMemoryError) -> UnsafeRawBufferPointer {
    try check(range)
    let byteCount = Int(range.byteCount)
    guard byteCount > 0 else { return unsafe UnsafeRawBufferPointer(start: nil, count: 0) }
    guard let host = unsafe map.host(range.start.rawValue, byteCount) else { throw .divided(range) }
    return unsafe UnsafeRawBufferPointer(start: host, count: byteCount)
  }
}

enum PageScan {
  /// Looks at 256 bytes a turn: wide enough for the compiler to use vectors, short enough to stop early.
  static func isZero(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard let base = bytes.baseAddress else { return true }
    let count = bytes.count
    var offset = 0
    if UInt(bitPattern: base) & 7 == 0 {
      while offset + 256 <= count {
        var found: UInt64 = 0
        for word in 0..<32 { unsafe found |= (base + offset + word * 8).load(as: UInt64.self) }
        if found != 0 { return false }
        offset += 256
      }
    }
    while offset < count {
      if unsafe base.load(fromByteOffset: offset, as: UInt8.self) != 0 { return false }
      offset += 1
    }
    return true
  }

  /// Three lanes of multiply-and-fold over 64-bit words, as wide products mix best per cycle.
  ///
  /// The result is a function of the bytes and their number alone, on every machine of the same byte order.
  static func digest(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    var lanes: (UInt64, UInt64, UInt64) = (0x9E37_79B9_7F4A_7C15, 0xC2B2_AE3D_27D4_EB4F, 0x1656_67B1_9E37_79F9)
    lanes.0 ^= UInt64(bytes.count)
    var offset = 0
    while offset + 48 <= bytes.count {
      unsafe lanes.0 = fold(lanes.0 ^ word(bytes, offset), 0xA076_1D64_78BD_642F ^ word(bytes, offset + 8))
      unsafe lanes.1 = fold(lanes.1 ^ word(bytes, offset + 16), 0xE703_7ED1_A0B4_28DB ^ word(bytes, offset + 24))
      unsafe lanes.2 = fold(lanes.2 ^ word(bytes, offset + 32), 0x8EBC_6AF0_9C88_C6E3 ^ word(bytes, offset + 40))
      offset += 48
    }
    while offset + 8 <= bytes.count {
      unsafe lanes.0 = fold(lanes.0 ^ word(bytes, offset), 0xA076_1D64_78BD_642F)
      offset += 8
    }
    while offset < bytes.count {
      unsafe lanes.1 = fold(lanes.1 ^ UInt64(bytes[offset]), 0xE703_7ED1_A0B4_28DB)
      offset += 1
    }
    return fold(fold(lanes.0 ^ 0x8EBC_6AF0_9C88_C6E3, lanes.1), lanes.2 ^ 0x5895_54AF_9E1B_7B31)
  }

  @inline(__always)
  private static func word(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> UInt64 {
    unsafe UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
  }

  @inline(__always)
  private static func fold(_ left: UInt64, _ right: UInt64) -> UInt64 {
    let product = left.multipliedFullWidth(by: right)
    return product.high ^ product.low
  }
}
