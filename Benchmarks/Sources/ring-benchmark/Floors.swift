import LinuxIO
import Synchronization

/// The same work by hand over raw pointers: what the library is compared with.
///
/// Both floors follow direct descriptors and indirect tables, read each field once, write the used ring and publish its
/// index after a batch, as the library does. Where buffers are read, they also translate each buffer's address and decide
/// by event indices on an interrupt and on kicks.
struct Floor {
  /// Of the same kind as the library's memory, so that neither has better pages.
  let memory: Mapping
  let base: UnsafeMutableRawPointer
  let byteCount: UInt64
  // A driver chooses size and places, so the compiler may not know them.
  let size: UInt16
  let descriptors: UnsafeMutableRawPointer
  let available: UnsafeMutableRawPointer
  let usedRing: UnsafeMutableRawPointer
  /// The driver's available index.
  var index: UInt16 = 0
  var next: UInt16 = 0
  var seen: UInt16 = 0
  var used: UInt16 = 0
  var notifiedUsed: UInt16 = 0
  var notificationCount = 0

  @inline(never)
  init(_ memory: Mapping, size: UInt16) {
    self.memory = memory
    base = memory.base
    byteCount = UInt64(memory.byteCount)
    self.size = size
    descriptors = base + Int(BenchmarkRing.descriptorTable.rawValue)
    available = base + Int(BenchmarkRing.availableRing.rawValue)
    usedRing = base + Int(BenchmarkRing.usedRing.rawValue)
  }

  /// Makes so many batches available and serves each; false when the ring is broken.
  mutating func serve(_ batches: Int, _ work: Work, isChecking: Bool) -> Bool {
    var sum: UInt64 = 0
    for _ in 0..<batches {
      index &+= BenchmarkRing.batch
      (available + 2).store16(index, .releasing)
      switch (isChecking, work) {
      case (true, .reading): guard readChecking(&sum) else { return false }
      case (true, .walking): guard walkChecking(&sum) else { return false }
      case (false, .reading): readBare(&sum)
      case (false, .walking): walkBare(&sum)
      }
    }
    return true
  }

  // Each work has code of its own, so that no row asks what it has to do.
  @inline(never) private mutating func readBare(_ sum: inout UInt64) { serveBare(&sum, reads: true) }
  @inline(never) private mutating func walkBare(_ sum: inout UInt64) { serveBare(&sum, reads: false) }
  @inline(never) private mutating func readChecking(_ sum: inout UInt64) -> Bool { serveChecking(&sum, reads: true) }
  @inline(never) private mutating func walkChecking(_ sum: inout UInt64) -> Bool { serveChecking(&sum, reads: false) }

  /// Believes everything that the driver says: no check at all. Nobody could put this before a guest.
  @inline(__always)
  private mutating func serveBare(_ total: inout UInt64, reads: Bool) {
    // In locals, and so in registers, as anybody would write it by hand.
    var (next, seen, used, sum) = (next, seen, used, total)
    defer { (self.next, self.seen, self.used, total) = (next, seen, used, sum) }
    while true {
      if next == seen {
        seen = (available + 2).load16(.acquiring)
        if next == seen { break }
      }
      let head = (available + 4 + 2 * Int(next & (size &- 1))).load16(.relaxed)
      next &+= 1
      var table = descriptors
      var index = Int(head)
      while true {
        let address = (table + index * 16).load64()
        let word = (table + index * 16 + 8).load64()
        if word & 4 << 32 != 0 {
          table = base + Int(truncatingIfNeeded: address)
          index = 0
          continue
        }
        if reads {
          sum &+= UInt64((base + Int(truncatingIfNeeded: address)).loadUnaligned(as: UInt32.self))
        } else {
          sum &+= address &+ (word & 0xFFFF_FFFF)
        }
        if word & 1 << 32 == 0 { break }
        index = Int(word >> 48)
      }
      give(head, &used)
    }
    (usedRing + 2).store16(used, .releasing)
    if reads { seen = settle(seen, used) }
  }

  /// Makes the library's checks: the index, each next, the number of descriptors, the sum of lengths, the order of
  /// flags, where an indirect table lies and, if it is read, a buffer. It has one region, which starts at 0, one table of
  /// features and no errors to tell apart.
  @inline(__always)
  private mutating func serveChecking(_ total: inout UInt64, reads: Bool) -> Bool {
    var (next, seen, used, sum) = (next, seen, used, total)
    defer { (self.next, self.seen, self.used, total) = (next, seen, used, sum) }
    while true {
      if next == seen {
        let index = (available + 2).load16(.acquiring)
        if next == index { break }
        guard index &- next <= size else { return false }
        seen = index
      }
      let head = (available + 4 + 2 * Int(next & (size &- 1))).load16(.relaxed)
      guard head < size else { return false }
      next &+= 1
      guard walk(head, &sum, reads: reads) else { return false }
      give(head, &used)
    }
    (usedRing + 2).store16(used, .releasing)
    if reads {
      let index = settle(seen, used)
      guard index &- next <= size else { return false }
      seen = index
    }
    return true
  }

  @inline(__always)
  private func walk(_ head: UInt16, _ sum: inout UInt64, reads: Bool) -> Bool {
    var table = descriptors
    var count = UInt64(size)
    var left = count
    var index = UInt64(head)
    var total: UInt32 = 0
    var writable: UInt64 = 0
    var isIndirect = false
    while true {
      guard left > 0 else { return false }
      left &-= 1
      let address = (table + Int(index) * 16).load64()
      let word = (table + Int(index) * 16 + 8).load64()
      let length = UInt32(truncatingIfNeeded: word)
      if word & 4 << 32 != 0 {
        guard !isIndirect, word & 1 << 32 == 0, length != 0, length % 16 == 0, length <= 16 * 32768,
          address < byteCount, UInt64(length) <= byteCount - address
        else { return false }
        isIndirect = true
        table = base + Int(truncatingIfNeeded: address)
        count = UInt64(length) / 16
        left = count
        index = 0
        continue
      }
      let (new, overflow) = total.addingReportingOverflow(length)
      guard !overflow, word & 2 << 32 >= writable else { return false }
      total = new
      writable = word & 2 << 32
      if reads {
        guard length >= 4, address <= byteCount &- 4 else { return false }
        sum &+= UInt64((base + Int(truncatingIfNeeded: address)).loadUnaligned(as: UInt32.self))
      } else {
        sum &+= address &+ UInt64(length)
      }
      if word & 1 << 32 == 0 { return true }
      index = word >> 48
      guard index < count else { return false }
    }
  }

  @inline(__always)
  private func give(_ head: UInt16, _ used: inout UInt16) {
    let element = usedRing + 4 + 8 * Int(used & (size &- 1))
    element.assumingMemoryBound(to: Atomic<UInt32>.self).pointee.store(UInt32(head), ordering: .relaxed)
    (element + 4).assumingMemoryBound(to: Atomic<UInt32>.self).pointee.store(0, ordering: .relaxed)
    used &+= 1
  }

  /// After the used index was published: whether to interrupt, and a kick with the next chain (2.7.7, 2.7.10). One barrier
  /// does for both.
  ///
  /// - Returns: the available index, read once more.
  @inline(__always)
  private mutating func settle(_ seen: UInt16, _ used: UInt16) -> UInt16 {
    (usedRing + 4 + 8 * Int(size)).store16(seen, .relaxed)
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    let event = (available + 4 + 2 * Int(size)).load16(.relaxed)
    if used &- event &- 1 < used &- notifiedUsed { notificationCount &+= 1 }
    notifiedUsed = used
    return (available + 2).load16(.acquiring)
  }
}

extension UnsafeMutableRawPointer {
  enum LoadOrdering { case relaxed, acquiring }
  enum StoreOrdering { case relaxed, releasing }

  @inline(__always)
  func load16(_ ordering: LoadOrdering) -> UInt16 {
    let atomic = assumingMemoryBound(to: Atomic<UInt16>.self)
    return ordering == .acquiring ? atomic.pointee.load(ordering: .acquiring) : atomic.pointee.load(ordering: .relaxed)
  }

  @inline(__always)
  func load64() -> UInt64 {
    assumingMemoryBound(to: Atomic<UInt64>.self).pointee.load(ordering: .relaxed)
  }

  @inline(__always)
  func store16(_ value: UInt16, _ ordering: StoreOrdering) {
    let atomic = assumingMemoryBound(to: Atomic<UInt16>.self)
    if ordering == .releasing {
      atomic.pointee.store(value, ordering: .releasing)
    } else {
      atomic.pointee.store(value, ordering: .relaxed)
    }
  }
}
