import CLinux
import Glibc

/// Reading faults, and answering them.
///
/// In all of these an offset and a length are in bytes and multiples of the page size, which is the huge page's for memory
/// in huge pages.
extension Userfaultfd {
  /// Somebody waits for a page.
  public struct Fault: Equatable, Sendable {
    /// The page's address in this process.
    public let address: UInt64
    /// What the page is wanted for or lacks: `UFFD_PAGEFAULT_FLAG_…`.
    fileprivate let flags: UInt64

    /// Whether the page is to be written.
    public var isWrite: Bool { flags & 1 != 0 }
    /// Whether the page is there, and protected.
    public var isProtected: Bool { flags & 2 != 0 }
    /// Whether the file has the page, and only this process's map lacks it.
    public var isUnmapped: Bool { flags & 4 != 0 }

    /// Where the page stands in a mapping, in bytes; nil for one of another mapping.
    public func offset(in mapping: Mapping) -> Int? { mapping.offset(of: address) }
  }

  /// Takes up to sixteen faults that nobody has taken yet; none when there are none. It does not wait.
  public func takeFaults(_ body: (Fault) -> Void) throws(LinuxError) {
    // A message has four words: its kind, flags, address, and the thread, which is not asked for.
    var words = InlineArray<64, UInt64>(repeating: 0)
    let number = descriptor.rawValue
    do throws(LinuxError) {
      let byteCount = try unsafe withUnsafeMutableBytes(of: &words) { (buffer) throws(LinuxError) in
        try retrying("read(userfaultfd)") { unsafe read(number, buffer.baseAddress, buffer.count) }
      }
      for message in stride(from: 0, to: byteCount / 8, by: 4)
      where UInt64(littleEndian: words[message]) & 0xff == Self.pageFault {
        body(Fault(address: words[message + 2], flags: words[message + 1]))
      }
    } catch {
      if error.number != EAGAIN { throw error }
    }
  }

  /// Makes missing pages present with these bytes, and wakes who waits for them.
  ///
  /// - Returns: how many bytes were taken: fewer than there are when a page behind them is there already, and is left as
  ///   it is; 0 when that is the first.
  public func copy(_ bytes: Span<UInt8>, to mapping: Mapping, at offset: Int) throws(LinuxError) -> Int {
    let number = descriptor.rawValue
    let target = Self.range(mapping, offset, bytes.count)
    return try unsafe bytes.withUnsafeBytes { (source) throws(LinuxError) in
      let start = UInt64(UInt(bitPattern: source.baseAddress))
      return try Self.provide("ioctl(UFFDIO_COPY)", source.count) {
        var request = uffdio_copy(dst: target.start, src: start, len: target.len, mode: 0, copy: 0)
        return unsafe (ioctl(number, UInt(CLINUX_UFFDIO_COPY), &request), request.copy)
      }
    }
  }

  /// Makes missing pages present with zeros, and wakes who waits for them. Huge pages are refused (`EINVAL`).
  ///
  /// - Returns: as `copy` does.
  public func zero(_ mapping: Mapping, at offset: Int, byteCount: Int) throws(LinuxError) -> Int {
    let number = descriptor.rawValue
    let target = Self.range(mapping, offset, byteCount)
    return try Self.provide("ioctl(UFFDIO_ZEROPAGE)", byteCount) {
      var request = uffdio_zeropage(range: target, mode: 0, zeropage: 0)
      return unsafe (ioctl(number, UInt(CLINUX_UFFDIO_ZEROPAGE), &request), request.zeropage)
    }
  }

  /// Maps pages that the file has, whatever it has there, and wakes who waits for them.
  ///
  /// - Returns: as `copy` does.
  public func mapUnmapped(_ mapping: Mapping, at offset: Int, byteCount: Int) throws(LinuxError) -> Int {
    let number = descriptor.rawValue
    let target = Self.range(mapping, offset, byteCount)
    return try Self.provide("ioctl(UFFDIO_CONTINUE)", byteCount) {
      var request = uffdio_continue(range: target, mode: 0, mapped: 0)
      return unsafe (ioctl(number, UInt(CLINUX_UFFDIO_CONTINUE), &request), request.mapped)
    }
  }

  /// Has everybody who waits for these pages look again.
  public func wake(_ mapping: Mapping, at offset: Int, byteCount: Int) throws(LinuxError) {
    let number = descriptor.rawValue
    var range = Self.range(mapping, offset, byteCount)
    _ = try retrying("ioctl(UFFDIO_WAKE)") { unsafe ioctl(number, UInt(CLINUX_UFFDIO_WAKE), &range) }
  }

  /// Reports the next write to each of these pages, or lets writes pass and wakes who waits for that.
  public func setProtected(
    _ isProtected: Bool, _ mapping: Mapping, at offset: Int, byteCount: Int
  ) throws(LinuxError) {
    let number = descriptor.rawValue
    let range = Self.range(mapping, offset, byteCount)
    var request = uffdio_writeprotect(range: range, mode: isProtected ? 1 : 0)
    _ = try Self.provide("ioctl(UFFDIO_WRITEPROTECT)", byteCount) {
      unsafe (ioctl(number, UInt(CLINUX_UFFDIO_WRITEPROTECT), &request), 0)
    }
  }

  /// `UFFD_EVENT_PAGEFAULT`
  private static var pageFault: UInt64 { 0x12 }

  /// Runs a request until it has done something. `EAGAIN` says that it did part of its work, or none as the map of this
  /// process was being changed.
  private static func provide(
    _ call: String, _ byteCount: Int, _ body: () -> (status: Int32, done: Int64)
  ) throws(LinuxError) -> Int {
    while true {
      let (status, done) = body()
      if status == 0 { return byteCount }
      if done > 0 { return Int(done) }
      if errno == EEXIST { return 0 }
      if errno != EAGAIN && errno != EINTR { throw LinuxError(call: call) }
    }
  }
}
