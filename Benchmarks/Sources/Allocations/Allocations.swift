/// How often this process has asked for memory. The program's own `malloc` stands before the C library's for all
/// libraries that it loads, so the Swift runtime's requests are counted too.
public enum Allocations {
  public static var count: Int { allocationCount }

  /// Whether counting works at all here: an array that escapes costs at least one.
  public static var isCounting: Bool {
    let before = count
    sink = [UInt8](repeating: 1, count: before % 7 + 1)
    return count > before
  }
}

nonisolated(unsafe) private var allocationCount = 0
nonisolated(unsafe) private var sink: [UInt8] = []

@_extern(c, "__libc_malloc") private func libcMalloc(_ byteCount: Int) -> UnsafeMutableRawPointer?
@_extern(c, "__libc_calloc") private func libcCalloc(_ count: Int, _ byteCount: Int) -> UnsafeMutableRawPointer?
@_extern(c, "__libc_realloc")
private func libcRealloc(_ old: UnsafeMutableRawPointer?, _ byteCount: Int) -> UnsafeMutableRawPointer?

@c(malloc)
public func countedMalloc(_ byteCount: Int) -> UnsafeMutableRawPointer? {
  allocationCount &+= 1
  return libcMalloc(byteCount)
}

@c(calloc)
public func countedCalloc(_ count: Int, _ byteCount: Int) -> UnsafeMutableRawPointer? {
  allocationCount &+= 1
  return libcCalloc(count, byteCount)
}

@c(realloc)
public func countedRealloc(_ old: UnsafeMutableRawPointer?, _ byteCount: Int) -> UnsafeMutableRawPointer? {
  allocationCount &+= 1
  return libcRealloc(old, byteCount)
}
