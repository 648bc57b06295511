import Glibc

/// A network of the test's own: interfaces that it makes there are seen by nobody else, and go with it.
///
/// Making one takes root's rights. Without them run the tests in `unshare --map-root-user --net`.
public enum NetworkNamespace {
  /// Why the tests that need one are skipped.
  public static let requirement = "needs the right to make network namespaces: root, or unshare --map-root-user --net"

  /// Whether this thread may make one, and TAP devices in it.
  public static let isAvailable = unsafe access("/dev/net/tun", R_OK | W_OK) == 0 && (try? run {}) != nil

  /// Runs a body, on this thread, in a new network. The body must not leave the thread.
  public static func run<Result>(_ body: () throws -> Result) throws -> Result {
    let newNetwork: Int32 = 0x4000_0000
    let before = unsafe open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)
    guard before >= 0 else { throw Unavailable(call: "open", number: errno) }
    defer { close(before) }
    guard unshare(newNetwork) == 0 else { throw Unavailable(call: "unshare", number: errno) }
    defer { precondition(setns(before, newNetwork) == 0, "this thread cannot go back to its network") }
    return try body()
  }

  public struct Unavailable: Error {
    public let call: String
    public let number: Int32
  }
}

// glibc declares both only under _GNU_SOURCE.
private func unshare(_ flags: Int32) -> Int32 {
  guard let symbol = unsafe dlsym(nil, "unshare") else { return -1 }
  return unsafe unsafeBitCast(symbol, to: (@convention(c) (Int32) -> Int32).self)(flags)
}

private func setns(_ descriptor: Int32, _ flags: Int32) -> Int32 {
  guard let symbol = unsafe dlsym(nil, "setns") else { return -1 }
  return unsafe unsafeBitCast(symbol, to: (@convention(c) (Int32, Int32) -> Int32).self)(descriptor, flags)
}
