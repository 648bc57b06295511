import Synchronization

/// What two sides of a ring in guest memory say to each other.
extension GuestMemory {
  /// Reads a ring index: whatever was stored before it was published is seen after this.
  ///
  /// - Parameter address: a multiple of 2, as 2.7 asks of every ring.
  public func acquire(at address: GuestAddress) throws(GuestMemoryError) -> UInt16 {
    unsafe UInt16(littleEndian: try pointer(at: address).pointee.load(ordering: .acquiring))
  }

  /// Publishes a ring index: whoever acquires it also sees every store made before.
  ///
  /// - Parameter address: a multiple of 2, as 2.7 asks of every ring.
  public func publish(_ index: UInt16, at address: GuestAddress) throws(GuestMemoryError) {
    unsafe try pointer(at: address).pointee.store(index.littleEndian, ordering: .releasing)
    unsafe map.log.mark(address.rawValue, 2)
  }

  /// Orders all stores before it against all loads after it, which even x86 does not do by itself.
  ///
  /// Needed wherever one side writes a flag or an index and then looks whether the other side has written (2.7.7, 2.7.10).
  public static func fullBarrier() {
    atomicMemoryFence(ordering: .sequentiallyConsistent)
  }

  /// Orders all stores before it against all stores after it; costs nothing on x86.
  ///
  /// For whoever looks later at what a process left that was killed in between.
  public static func storeBarrier() {
    atomicMemoryFence(ordering: .releasing)
  }

  private func pointer(at address: GuestAddress) throws(GuestMemoryError) -> UnsafeMutablePointer<Atomic<UInt16>> {
    guard let host = unsafe map.host(address.rawValue, 2) else {
      throw .outside(GuestRange(start: address, byteCount: 2))
    }
    guard UInt(bitPattern: host) & 1 == 0 else { throw .unaligned(address, multipleOf: 2) }
    return unsafe host.atomic(UInt16.self)
  }
}
