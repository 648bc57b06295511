public import LinuxIO
import Synchronization

/// The pages that a device has written, one bit each, in vhost-user's own layout.
///
/// Bit p mod 8 of byte p / 8 stands for the 4 KiB page that starts at guest-physical address 4096 · p. Threads and
/// processes may set and collect bits at the same time; a writer stores its data first and the bit after.
@safe public final class DirtyLog: Sendable {
  /// The bytes of guest memory that a bit stands for.
  public static let pageByteCount = 4096

  /// How many pages the log has bits for.
  public let pageCount: UInt64
  private let mapping: Mapping
  // SAFETY: `bits` points into `mapping`, which has a byte for each eight pages; `missed` is allocated here, freed in deinit.
  nonisolated(unsafe) let bits: DirtyBits

  private init(_ mapping: Mapping, at offset: Int, pageCount: UInt64) {
    self.mapping = mapping
    self.pageCount = pageCount
    let missed = UnsafeMutablePointer<Atomic<UInt64>>.allocate(capacity: 1)
    unsafe missed.initialize(to: Atomic(0))
    unsafe bits = unsafe DirtyBits(bytes: mapping.base + offset, pageCount: pageCount, missed: missed)
  }

  /// A log of this process alone that covers guest addresses from 0 up to `end`.
  public convenience init(coveringUpTo end: GuestAddress) throws(GuestMemoryError) {
    let pageCount = end.rawValue / 4096 + (end.rawValue % 4096 == 0 ? 0 : 1)
    let mapping = try system { () throws(LinuxError) in try Mapping(anonymous: Int(pageCount / 8) + 8) }
    self.init(mapping, at: 0, pageCount: pageCount)
  }

  /// A log in a file that a peer shares (vhost-user SET_LOG_BASE).
  ///
  /// - Parameters:
  ///   - offset: where the log starts in the file, in bytes.
  ///   - byteCount: the log's length in bytes, each for eight pages.
  public convenience init(
    file: borrowing FileDescriptor, at offset: UInt64, byteCount: UInt64
  ) throws(GuestMemoryError) {
    let size = UInt64(max(0, try system { () throws(LinuxError) in try file.status.byteCount }))
    let (end, overflow) = offset.addingReportingOverflow(byteCount)
    guard !overflow, byteCount > 0, end <= size else {
      throw .fileTooShort(needed: overflow ? .max : end, is: size)
    }
    let mapping = try system { () throws(LinuxError) in try Mapping(of: file, byteCount: Int(end)) }
    self.init(mapping, at: Int(offset), pageCount: byteCount * 8)
  }

  deinit {
    unsafe bits.missed?.deinitialize(count: 1)
    unsafe bits.missed?.deallocate()
  }

  /// How many written pages lay beyond the end of the log and so are in no bit of it.
  public var missedCount: UInt64 {
    unsafe bits.missed?.pointee.load(ordering: .relaxed) ?? 0
  }

  /// Marks every page that the range touches as written.
  public func mark(_ range: GuestRange) {
    unsafe bits.mark(range.start.rawValue, Int(clamping: range.byteCount))
  }

  /// Whether the page that starts at 4096 · `page` is marked.
  public func isMarked(page: UInt64) -> Bool {
    guard page < pageCount else { return false }
    return unsafe bits.byte(of: page).pointee.load(ordering: .acquiring) & UInt8(1 << (page & 7)) != 0
  }

  /// Takes all marks away and hands out each marked page's number, in rising order.
  public func collect(_ body: (_ page: UInt64) -> Void) {
    for first in stride(from: 0, to: pageCount, by: 8) {
      let byte = unsafe bits.byte(of: first)
      guard unsafe byte.pointee.load(ordering: .relaxed) != 0 else { continue }
      var marks = unsafe byte.pointee.exchange(0, ordering: .acquiringAndReleasing)
      while marks != 0 {
        body(first + UInt64(marks.trailingZeroBitCount))
        marks &= marks - 1
      }
    }
  }
}

/// The trivial view of a dirty log that each store looks at; without a log it costs one load and one branch.
@unsafe
@usableFromInline
struct DirtyBits {
  // SAFETY: both point at storage of the DirtyLog that the owning GuestMemory keeps, or are nil together.
  @usableFromInline let bytes: UnsafeMutableRawPointer?
  let missed: UnsafeMutablePointer<Atomic<UInt64>>?
  let pageCount: UInt64

  init(bytes: UnsafeMutableRawPointer?, pageCount: UInt64, missed: UnsafeMutablePointer<Atomic<UInt64>>?) {
    unsafe self.bytes = unsafe bytes
    unsafe self.missed = unsafe missed
    unsafe self.pageCount = pageCount
  }

  static var off: DirtyBits { unsafe DirtyBits(bytes: nil, pageCount: 0, missed: nil) }

  var isOn: Bool { unsafe bytes != nil }

  @inlinable
  @inline(__always)
  func mark(_ address: UInt64, _ byteCount: Int) {
    if unsafe bytes != nil { unsafe markPages(address, byteCount) }
  }

  @usableFromInline
  func markPages(_ address: UInt64, _ byteCount: Int) {
    guard byteCount > 0 else { return }
    let (end, overflow) = address.addingReportingOverflow(UInt64(byteCount - 1))
    let last = (overflow ? .max : end) / 4096
    let first = address / 4096
    if unsafe last >= pageCount {
      unsafe missed?.pointee.wrappingAdd(last - max(first, pageCount) + 1, ordering: .relaxed)
    }
    for page in unsafe first..<max(first, min(last + 1, pageCount)) {
      // Always the locked instruction, though the bit is often set: it is also the barrier that keeps the store of
      // the data from passing a mere look at the bit, between which a collector could take the bit and read old data.
      unsafe byte(of: page).pointee.bitwiseOr(UInt8(1) << UInt8(page & 7), ordering: .sequentiallyConsistent)
    }
  }

  func byte(of page: UInt64) -> UnsafeMutablePointer<Atomic<UInt8>> {
    guard let bytes = unsafe bytes else { preconditionFailure("only called with a log") }
    return unsafe (bytes + Int(page / 8)).atomic(UInt8.self)
  }
}
