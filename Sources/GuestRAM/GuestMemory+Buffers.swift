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
  ///   - vectors: room for the list, emptied before and after; keep it to allocate nothing.
  ///   - body: makes the call and returns how many bytes it stored, from the front.
  /// - Returns: what `body` returned.
  public func fill<E: Error>(
    _ buffers: [GuestBuffer], using vectors: inout IOVectors, _ body: (borrowing IOVectors) throws(E) -> Int
  ) throws(TransferError<E>) -> Int {
    defer { vectors.removeAll() }
    do throws(GuestMemoryError) {
      try lend(buffers, to: &vectors)
    } catch {
      throw .memory(error)
    }
    let stored: Int
    do throws(E) {
      stored = try body(vectors)
    } catch {
      // Whatever failed may have stored some of it before.
      mark(buffers, byteCount: vectors.totalByteCount)
      throw .transfer(error)
    }
    mark(buffers, byteCount: stored)
    return stored
  }

  /// Lends device-readable buffers to a call that reads from them.
  ///
  /// - Parameters:
  ///   - buffers: in order; each may cross regions.
  ///   - vectors: room for the list, emptied before and after; keep it to allocate nothing.
  ///   - body: makes the call and returns how many bytes it took, from the front.
  /// - Returns: what `body` returned.
  public func drain<E: Error>(
    _ buffers: [GuestBuffer], using vectors: inout IOVectors, _ body: (borrowing IOVectors) throws(E) -> Int
  ) throws(TransferError<E>) -> Int {
    defer { vectors.removeAll() }
    do throws(GuestMemoryError) {
      try lend(buffers, to: &vectors)
    } catch {
      throw .memory(error)
    }
    do throws(E) {
      return try body(vectors)
    } catch {
      throw .transfer(error)
    }
  }

  private func lend(_ buffers: [GuestBuffer], to vectors: inout IOVectors) throws(GuestMemoryError) {
    vectors.removeAll()
    for buffer in buffers {
      var hasRoom = true
      let isWhole = unsafe map.forEachPiece(buffer.address.rawValue, buffer.byteCount) { (host, length) in
        hasRoom = unsafe vectors.append(host, byteCount: length) && hasRoom
      }
      guard hasRoom else { throw .tooManyBuffers(most: vectors.capacity) }
      guard isWhole, buffer.byteCount >= 0 else { throw .outside(buffer.range) }
    }
  }

  private func mark(_ buffers: [GuestBuffer], byteCount: Int) {
    var left = byteCount
    for buffer in buffers where left > 0 {
      unsafe map.log.mark(buffer.address.rawValue, min(left, buffer.byteCount))
      left -= buffer.byteCount
    }
  }
}
