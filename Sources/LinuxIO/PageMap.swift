import CLinux
import Glibc

/// What the kernel knows of this process's pages (`/proc/self/pagemap`): which are there, and in memory that is registered
/// with a `Userfaultfd` for silent writes also which were written (Linux 6.7).
///
/// To open it costs as much as to ask about several pages.
public struct PageMap: ~Copyable, Sendable {
  let descriptor: FileDescriptor
  /// How many runs of pages a call finds at most.
  private static let mostRuns = 512

  public init() throws(LinuxError) {
    descriptor = try FileDescriptor.open("/proc/self/pagemap")
  }

  /// Hands out runs of pages that were written since they were protected, in rising order, in bytes of the mapping.
  ///
  /// - Parameters:
  ///   - bytes: a stretch of the mapping, in whole pages.
  ///   - isProtecting: whether pages are protected again in the same step in which they are found; a write after that is
  ///     found by the next call, and what one before it stored can be read.
  ///   - body: called after its pages are protected.
  public func forEachWritten(
    in mapping: Mapping, _ bytes: Range<Int>, protecting isProtecting: Bool, _ body: (Range<Int>) -> Void
  ) throws(LinuxError) {
    let origin = mapping.address(of: 0)
    var next = mapping.address(of: bytes.lowerBound)
    let end = mapping.address(of: bytes.upperBound)
    var runs = [clinux_page_region](repeating: clinux_page_region(), count: next < end ? Self.mostRuns : 0)
    while next < end {
      var request = Self.request(from: next, to: end, protecting: isProtecting)
      request.category_mask = UInt64(CLINUX_PAGE_IS_WRITTEN)
      request.vec_len = UInt64(runs.count)
      let count = try unsafe runs.withUnsafeMutableBufferPointer { (runs) throws(LinuxError) in
        request.vec = UInt64(UInt(bitPattern: runs.baseAddress))
        return try scan(&request)
      }
      for run in runs[0..<count] { body(Int(run.start - origin)..<Int(run.end - origin)) }
      next = request.walk_end
    }
  }

  /// Protects pages, those that are not there yet too, whatever was written to them.
  public func protect(_ mapping: Mapping, _ bytes: Range<Int>) throws(LinuxError) {
    var next = mapping.address(of: bytes.lowerBound)
    let end = mapping.address(of: bytes.upperBound)
    while next < end {
      // Without a category every page matches, and the holes between page tables too.
      var request = Self.request(from: next, to: end, protecting: true)
      _ = try scan(&request)
      next = request.walk_end
    }
  }

  private static func request(from start: UInt64, to end: UInt64, protecting isProtecting: Bool) -> clinux_pm_scan_arg {
    var request = clinux_pm_scan_arg()
    request.size = UInt64(MemoryLayout<clinux_pm_scan_arg>.size)
    request.flags = isProtecting ? UInt64(CLINUX_PM_SCAN_WP_MATCHING | CLINUX_PM_SCAN_CHECK_WPASYNC) : 0
    request.start = start
    request.end = end
    request.return_mask = UInt64(CLINUX_PAGE_IS_WRITTEN)
    return request
  }

  /// - Returns: how many runs were found.
  private func scan(_ request: inout clinux_pm_scan_arg) throws(LinuxError) -> Int {
    let number = descriptor.rawValue
    while true {
      let count = unsafe ioctl(number, UInt(CLINUX_PAGEMAP_SCAN), &request)
      if count >= 0 { return Int(count) }
      if errno != EINTR { throw LinuxError(call: "ioctl(PAGEMAP_SCAN)") }
    }
  }
}
