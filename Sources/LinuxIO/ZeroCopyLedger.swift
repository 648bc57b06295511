import CLinux
import Glibc
import Synchronization

/// What a socket has sent without a copy, and how much of it the kernel may still read (`MSG_ZEROCOPY`).
///
/// The kernel numbers the calls, and tells on the socket's error queue which are over. While something is in that queue
/// the socket counts as ready for whoever waits for it, so everybody who waits empties it first.
final class ZeroCopyLedger: Sendable {
  private struct State {
    /// The number that the kernel gives the next call.
    var next: UInt32 = 0
    /// The bytes of each call that is not over.
    var inFlight: [UInt32: Int] = [:]
    var report = ZeroCopyReport()
  }

  private let state = Mutex(State())
  private let isOn = Atomic(false)

  /// Whether the socket may have something in its error queue.
  var isUsed: Bool { isOn.load(ordering: .relaxed) }
  var report: ZeroCopyReport { state.withLock { $0.report } }
  /// How many calls are not over.
  var inFlightCount: Int { state.withLock { $0.inFlight.count } }

  /// Asks the kernel for it; `EOPNOTSUPP` is thrown for a socket that is not TCP.
  func start(_ socket: Int32) throws(LinuxError) {
    var one: Int32 = 1
    _ = try retrying("setsockopt(SO_ZEROCOPY)") {
      unsafe setsockopt(socket, SOL_SOCKET, Int32(CLINUX_SO_ZEROCOPY), &one, socklen_t(MemoryLayout<Int32>.size))
    }
    isOn.store(true, ordering: .relaxed)
  }

  /// Makes a call that sends, and notes the bytes that it has taken before anybody can hear that it is over.
  /// - Returns: what the call has returned, with its `errno`.
  func note(_ call: () -> Int) -> Int {
    let (sent, number) = state.withLock { (state) in
      let sent = call()
      let number = errno
      if sent > 0 {
        state.inFlight[state.next] = sent
        state.next &+= 1
      }
      return (sent, number)
    }
    errno = number
    return sent
  }

  /// These bytes went in a way that nothing more is told of.
  func noteUncopied(_ byteCount: Int) {
    state.withLock { $0.report.uncopiedByteCount += UInt64(byteCount) }
  }

  /// The kernel had no room to note one more call, so these bytes were copied.
  func noteRefusal(_ byteCount: Int) {
    state.withLock { $0.report.refusedByteCount += UInt64(byteCount) }
  }

  /// Takes what the kernel has told, without waiting.
  /// - Returns: whether there was anything.
  @discardableResult
  func settle(_ socket: Int32) -> Bool {
    state.withLock { (state) in
      var hasSettled = false
      while let (calls, wasCopied) = ZeroCopyNotice.receive(on: socket) {
        hasSettled = true
        for number in calls {
          guard let byteCount = state.inFlight.removeValue(forKey: number) else { continue }
          if wasCopied {
            state.report.copiedByteCount += UInt64(byteCount)
          } else {
            state.report.uncopiedByteCount += UInt64(byteCount)
          }
        }
      }
      return hasSettled
    }
  }
}

/// What has become of bytes that were to be sent without a copy.
public struct ZeroCopyReport: Equatable, Sendable {
  /// Bytes that went straight from their pages.
  public var uncopiedByteCount: UInt64 = 0
  /// Bytes that the kernel copied all the same, as it does on the way to its own machine.
  public var copiedByteCount: UInt64 = 0
  /// Bytes that were copied because the process, or the socket, may not have more pages in the kernel's hands at a time
  /// (`ENOBUFS`: `RLIMIT_MEMLOCK`, `net.core.optmem_max`).
  public var refusedByteCount: UInt64 = 0

  public init() {}

  public mutating func add(_ other: ZeroCopyReport) {
    uncopiedByteCount += other.uncopiedByteCount
    copiedByteCount += other.copiedByteCount
    refusedByteCount += other.refusedByteCount
  }
}

/// One message of a socket's error queue.
private enum ZeroCopyNotice {
  /// A control message's header, `struct sock_extended_err`, and an address that nobody asks for.
  private static let mostByteCount = 128
  private static let headerByteCount = MemoryLayout<cmsghdr>.size
  private static let errorByteCount = 16

  /// - Returns: the calls that are over, by number, and whether they were copied; nil where there is no message.
  static func receive(on socket: Int32) -> (calls: [UInt32], wasCopied: Bool)? {
    unsafe withUnsafeTemporaryAllocation(byteCount: mostByteCount, alignment: 8) { (control) in
      var message = unsafe msghdr()
      unsafe message.msg_control = control.baseAddress
      unsafe message.msg_controllen = mostByteCount
      var result: Int
      repeat {
        result = unsafe recvmsg(socket, &message, Int32(Int(CLINUX_MSG_ERRQUEUE) | Int(MSG_DONTWAIT)))
      } while result < 0 && errno == EINTR
      guard result >= 0 else { return nil }
      return unsafe parse(control, byteCount: message.msg_controllen)
    }
  }

  /// What is no word of a call that is over ends none.
  private static func parse(
    _ control: UnsafeMutableRawBufferPointer, byteCount: Int
  ) -> (calls: [UInt32], wasCopied: Bool) {
    guard byteCount >= headerByteCount + errorByteCount else { return ([], false) }
    let origin = unsafe control.load(fromByteOffset: headerByteCount + 4, as: UInt8.self)
    let code = unsafe control.load(fromByteOffset: headerByteCount + 6, as: UInt8.self)
    guard origin == UInt8(CLINUX_SO_EE_ORIGIN_ZEROCOPY) else { return ([], false) }
    let first = unsafe control.load(fromByteOffset: headerByteCount + 8, as: UInt32.self)
    let last = unsafe control.load(fromByteOffset: headerByteCount + 12, as: UInt32.self)
    // Numbers begin again at 0 behind the largest.
    let count = last &- first
    return ((0...count).map { first &+ $0 }, code == UInt8(CLINUX_SO_EE_CODE_ZEROCOPY_COPIED))
  }
}
