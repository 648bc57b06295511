public import Synchronization

/// One stretch of guest memory, looked up once and read or written many times: a part of a ring.
///
/// A window keeps the memory that it looks upon, so it is never left hanging. It counts its shares without atomic
/// instructions, since a chain takes one each time: windows that come from one another stay on one thread.
@safe public struct MemoryWindow: ~Copyable {
  /// What all shares of a window have in common.
  @unsafe @usableFromInline
  struct Block {
    /// How many shares the first window ever had, and how many of them are gone.
    ///
    /// Two numbers that only grow, and not one that goes up and down: a processor can then have the sums of several chains
    /// under way at once, where each would have to wait for the one before.
    @usableFromInline var shareCount: UInt = 0
    @usableFromInline var goneCount: UInt = 0
    /// The first window is gone, and so the last share takes the block with it.
    @usableFromInline var isOrphan = false
    @usableFromInline let map: GuestMap
    // SAFETY: retained in init, released when the last share goes.
    let owner: Unmanaged<GuestMemory>
  }

  // SAFETY: allocated in init, freed with the first window or its last share, whichever goes later.
  @usableFromInline let block: UnsafeMutablePointer<Block>
  // SAFETY: `length` bytes inside a region that `block.owner` keeps mapped.
  @usableFromInline var base: UnsafeMutableRawPointer
  @usableFromInline var length: Int
  /// Where stores are marked: the stretch's own address as a rule.
  @usableFromInline var markAddress: UInt64
  /// Whether this is the first window, and no share.
  @usableFromInline let isFirst: Bool

  /// Opens a stretch that one region has all of.
  ///
  /// - Parameters:
  ///   - alignment: what the address must be a multiple of, in the guest and in this process; a power of two.
  ///   - markAddress: where stores are marked in the dirty log, when that is not `address` (vhost-user's ring log).
  public init(
    of memory: GuestMemory, at address: GuestAddress, byteCount: Int, alignment: Int,
    markedAt markAddress: GuestAddress? = nil
  ) throws(GuestMemoryError) {
    let range = GuestRange(start: address, byteCount: UInt64(max(0, byteCount)))
    try memory.check(range)
    guard let host = unsafe memory.map.host(address.rawValue, byteCount) else { throw .divided(range) }
    guard (UInt64(UInt(bitPattern: host)) | address.rawValue) & UInt64(alignment - 1) == 0 else {
      throw .unaligned(address, multipleOf: alignment)
    }
    unsafe block = .allocate(capacity: 1)
    unsafe block.initialize(
      to: Block(map: memory.map, owner: Unmanaged.passRetained(memory)))
    unsafe base = unsafe host
    length = byteCount
    self.markAddress = (markAddress ?? address).rawValue
    isFirst = true
  }

  /// A share.
  @inlinable
  @inline(__always)
  init(
    block: UnsafeMutablePointer<Block>, base: UnsafeMutableRawPointer, byteCount: Int, markAddress: UInt64
  ) {
    unsafe self.block = unsafe block
    unsafe self.base = unsafe base
    length = byteCount
    self.markAddress = markAddress
    isFirst = false
  }

  /// Another window upon the same stretch.
  @inlinable
  @inline(__always)
  public func share() -> MemoryWindow {
    unsafe block.pointee.shareCount &+= 1
    return unsafe MemoryWindow(block: block, base: base, byteCount: length, markAddress: markAddress)
  }

  @inlinable
  @inline(__always)
  deinit {
    if isFirst {
      unsafe block.pointee.isOrphan = true
    } else {
      unsafe block.pointee.goneCount &+= 1
    }
    if unsafe _slowPath(block.pointee.isOrphan) { unsafe Self.freeIfLast(block) }
  }

  @usableFromInline
  static func freeIfLast(_ block: UnsafeMutablePointer<Block>) {
    guard unsafe block.pointee.goneCount == block.pointee.shareCount else { return }
    unsafe block.pointee.owner.release()
    unsafe block.deinitialize(count: 1)
    unsafe block.deallocate()
  }
}

extension MemoryWindow {
  /// Moves this window to another stretch of the same memory: from a descriptor table to an indirect one.
  @inlinable
  @inline(__always)
  public mutating func move(to address: GuestAddress, byteCount: Int) throws(GuestMemoryError) {
    guard let host = unsafe Self.locate(address, byteCount, in: block) else {
      throw unsafe Self.refusal(address, byteCount, in: block)
    }
    unsafe base = unsafe host
    length = byteCount
    markAddress = address.rawValue
  }

  @inlinable
  @inline(__always)
  static func locate(
    _ address: GuestAddress, _ byteCount: Int, in block: UnsafeMutablePointer<Block>
  ) -> UnsafeMutableRawPointer? {
    unsafe block.pointee.map.host(address.rawValue, byteCount)
  }

  /// Why a stretch could not be located: part of it is no guest memory, or it is not all in one region.
  @usableFromInline
  static func refusal(
    _ address: GuestAddress, _ byteCount: Int, in block: UnsafeMutablePointer<Block>
  ) -> GuestMemoryError {
    do throws(GuestMemoryError) {
      unsafe try block.pointee.map.check(address.rawValue, byteCount)
    } catch {
      return error
    }
    return .divided(GuestRange(start: address, byteCount: UInt64(max(0, byteCount))))
  }

  /// Reads a little-endian integer of the window once. An offset beyond the window is the caller's mistake.
  @inlinable
  @inline(__always)
  public func load<T: GuestInteger>(_: T.Type, at offset: Int) -> T {
    precondition(offset >= 0 && offset &+ MemoryLayout<T>.size <= length)
    return unsafe T(littleEndian: (base + offset).loadOnce(T.self))
  }

  /// Writes a little-endian integer of the window and marks it in the dirty log.
  @inlinable
  @inline(__always)
  public func store<T: GuestInteger>(_ value: T, at offset: Int) {
    precondition(offset >= 0 && offset &+ MemoryLayout<T>.size <= length)
    unsafe (base + offset).storeOnce(value.littleEndian)
    unsafe block.pointee.map.log.mark(markAddress &+ UInt64(offset), MemoryLayout<T>.size)
  }

  /// Reads a ring index: whatever was stored before it was published is seen after this.
  @inlinable
  @inline(__always)
  public func acquire(at offset: Int) -> UInt16 {
    unsafe precondition(offset >= 0 && offset &+ 2 <= length && UInt(bitPattern: base + offset) & 1 == 0)
    return unsafe UInt16(littleEndian: (base + offset).atomic(UInt16.self).pointee.load(ordering: .acquiring))
  }

  /// Publishes a ring index: whoever acquires it also sees every store made before.
  @inlinable
  @inline(__always)
  public func publish(_ index: UInt16, at offset: Int) {
    unsafe precondition(offset >= 0 && offset &+ 2 <= length && UInt(bitPattern: base + offset) & 1 == 0)
    unsafe (base + offset).atomic(UInt16.self).pointee.store(index.littleEndian, ordering: .releasing)
    unsafe block.pointee.map.log.mark(markAddress &+ UInt64(offset), 2)
  }

  /// Reads a little-endian integer anywhere in the memory that this window belongs to.
  @inlinable
  @inline(__always)
  public func read<T: GuestInteger>(_: T.Type, at address: GuestAddress) throws(GuestMemoryError) -> T {
    unsafe try block.pointee.map.read(T.self, at: address.rawValue)
  }

  /// Writes a little-endian integer anywhere in the memory that this window belongs to.
  @inlinable
  @inline(__always)
  public func write<T: GuestInteger>(_ value: T, at address: GuestAddress) throws(GuestMemoryError) {
    unsafe try block.pointee.map.write(value, at: address.rawValue)
  }
}
