public import LinuxIO

/// Why a transfer between guest buffers and the kernel did not happen: the guest's fault, or the world's.
public enum TransferError<Failure: Error>: Error {
  /// A buffer is not guest memory; nothing was transferred.
  case memory(GuestMemoryError)
  /// What the system call threw.
  case transfer(Failure)
}

extension TransferError: Equatable where Failure: Equatable {}

/// Guest buffers lent to one system call, with no copy in between.
extension GuestMemory {
  /// Lends device-writable buffers to a call that stores into them, and marks what it says it stored.
  ///
  /// - Parameters:
  ///   - buffers: in the order in which they are filled; each may cross regions.
  ///   - part: which of the buffers' bytes to lend, counted over all of them; all when nil.
  ///   - vectors: room for the list, emptied before and after; keep it to allocate nothing.
  ///   - body: makes the call and returns how many bytes it stored, from the front.
  /// - Returns: what `body` returned.
  @inlinable
  public func fill<E: Error>(
    _ buffers: [GuestBuffer], part: Range<Int>? = nil, using vectors: inout IOVectors,
    _ body: (borrowing IOVectors) throws(E) -> Int
  ) throws(TransferError<E>) -> Int {
    let start = part?.lowerBound ?? 0
    do throws(TransferError<E>) {
      let stored = try drain(buffers, part: part, using: &vectors, body)
      mark(buffers, start, byteCount: stored)
      return stored
    } catch {
      // Whatever failed may have stored some of it before.
      if case .transfer = error { mark(buffers, start, byteCount: part?.count ?? .max) }
      throw error
    }
  }

  /// Lends device-readable buffers to a call that reads from them.
  ///
  /// - Parameters:
  ///   - buffers: in order; each may cross regions.
  ///   - part: which of the buffers' bytes to lend, counted over all of them; all when nil.
  ///   - vectors: room for the list, emptied before and after; keep it to allocate nothing.
  ///   - body: makes the call and returns how many bytes it took, from the front.
  /// - Returns: what `body` returned.
  @inlinable
  public func drain<E: Error>(
    _ buffers: [GuestBuffer], part: Range<Int>? = nil, using vectors: inout IOVectors,
    _ body: (borrowing IOVectors) throws(E) -> Int
  ) throws(TransferError<E>) -> Int {
    defer { vectors.removeAll() }
    do throws(GuestMemoryError) { try lend(buffers, part, to: &vectors) } catch { throw .memory(error) }
    do throws(E) {
      return try body(vectors)
    } catch {
      throw .transfer(error)
    }
  }

  /// Lists a part of the buffers, and nothing else.
  @usableFromInline
  func lend(_ buffers: [GuestBuffer], _ part: Range<Int>?, to vectors: inout IOVectors) throws(GuestMemoryError) {
    vectors.removeAll()
    try forEachStretch(of: buffers, part?.lowerBound ?? 0, byteCount: part?.count ?? .max) {
      (address, byteCount) throws(GuestMemoryError) in
      try lend(address, byteCount, to: &vectors)
    }
  }

  private func lend(_ address: UInt64, _ byteCount: Int, to vectors: inout IOVectors) throws(GuestMemoryError) {
    var hasRoom = true
    let isWhole = unsafe map.forEachPiece(address, byteCount) { (host, length) in
      hasRoom = unsafe vectors.append(host, byteCount: length) && hasRoom
    }
    guard hasRoom else { throw .tooManyBuffers(most: vectors.capacity) }
    guard isWhole, byteCount >= 0 else {
      throw .outside(GuestRange(start: GuestAddress(address), byteCount: UInt64(max(0, byteCount))))
    }
  }

  @usableFromInline
  func mark(_ buffers: [GuestBuffer], _ start: Int, byteCount: Int) {
    guard dirtyLog != nil else { return }
    forEachStretch(of: buffers, start, byteCount: byteCount) { (address, byteCount) in
      unsafe map.log.mark(address, byteCount)
    }
  }

  /// Visits up to `byteCount` bytes of the buffers, beginning `start` bytes into them.
  private func forEachStretch<E: Error>(
    of buffers: [GuestBuffer], _ start: Int, byteCount: Int, _ body: (UInt64, Int) throws(E) -> Void
  ) throws(E) {
    var skipped = start
    var left = byteCount
    for buffer in buffers where left > 0 {
      let dropped = min(skipped, max(0, buffer.byteCount))
      let length = min(left, buffer.byteCount - dropped)
      skipped -= dropped
      // Without an end every buffer counts whole, and their sum may be beyond all bounds.
      if left != .max { left -= max(0, length) }
      let (address, overflow) = buffer.address.rawValue.addingReportingOverflow(UInt64(dropped))
      // The last address of all is never guest memory, so it stands for those that do not exist.
      try body(overflow ? .max : address, length)
    }
  }
}
