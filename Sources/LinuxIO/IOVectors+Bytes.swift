import Glibc

extension IOVectors {
  /// Copies `bytes` into the ranges, starting `offset` bytes into them.
  /// - Returns: how many bytes fitted.
  public borrowing func storeBytes(_ bytes: [UInt8], at offset: Int = 0) -> Int {
    unsafe bytes.withUnsafeBytes { (source) in
      unsafe forEachRange(from: offset, upTo: source.count) { (range, done) in
        unsafe range.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[done..<done + range.count]))
      }
    }
  }

  /// A copy of up to `byteCount` bytes of the ranges, starting `offset` bytes into them; shorter at their end.
  public borrowing func copyBytes(at offset: Int = 0, count byteCount: Int = .max) -> [UInt8] {
    let length = min(max(byteCount, 0), totalByteCount - min(max(offset, 0), totalByteCount))
    return unsafe [UInt8](unsafeUninitializedCapacity: length) { (bytes, initializedCount) in
      let target = UnsafeMutableRawBufferPointer(bytes)
      initializedCount = unsafe forEachRange(from: offset, upTo: length) { (range, done) in
        unsafe UnsafeMutableRawBufferPointer(rebasing: target[done..<done + range.count])
          .copyMemory(from: UnsafeRawBufferPointer(range))
      }
    }
  }

  /// Fills the ranges with zeros.
  /// - Returns: how many bytes they have.
  public borrowing func zero() -> Int {
    unsafe forEachRange(from: 0, upTo: totalByteCount) { (range, _) in
      unsafe range.initializeMemory(as: UInt8.self, repeating: 0)
    }
  }

  /// Visits at most `byteCount` bytes range by range; `body` also learns how many bytes came before.
  /// - Returns: how many bytes there were.
  @unsafe private borrowing func forEachRange(
    from offset: Int, upTo byteCount: Int, _ body: (UnsafeMutableRawBufferPointer, Int) -> Void
  ) -> Int {
    unsafe withElements(from: offset) { (elements, count) in
      var done = 0
      for index in 0..<count where done < byteCount {
        let length = unsafe min(elements[index].iov_len, byteCount - done)
        unsafe body(UnsafeMutableRawBufferPointer(start: elements[index].iov_base, count: length), done)
        done += length
      }
      return done
    }
  }
}
