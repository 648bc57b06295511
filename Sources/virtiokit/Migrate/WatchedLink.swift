import LinuxIO
import Migration
import Synchronization

/// A connection that tells a few times a second how much has gone over it.
final class WatchedLink: Channel {
  /// How often it tells, in nanoseconds.
  private static let interval: UInt64 = 200_000_000

  private struct State {
    var byteCount: UInt64 = 0
    var next: UInt64
  }

  private let link: MigrationLink
  private let tell: @Sendable (_ byteCount: UInt64) -> Void
  private let state = Mutex(State(next: MonotonicClock.now + interval))

  /// - Parameter tell: told how many bytes have been sent.
  init(_ link: MigrationLink, tell: @escaping @Sendable (_ byteCount: UInt64) -> Void) {
    self.link = link
    self.tell = tell
  }

  var hasReturnPath: Bool { link.hasReturnPath }

  func send(_ bytes: [UInt8], within limit: Duration) throws(LinuxError) {
    try link.send(bytes, within: limit)
    count(bytes.count)
  }

  func send(_ vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) {
    try link.send(vectors, within: limit)
    count(vectors.totalByteCount)
  }

  func receive(exactly byteCount: Int, within limit: Duration) throws(LinuxError) -> [UInt8]? {
    try link.receive(exactly: byteCount, within: limit)
  }

  func receive(into vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) -> Bool {
    try link.receive(into: vectors, within: limit)
  }

  func waitUntilReadable(within limit: Duration) throws(LinuxError) -> Bool {
    try link.waitUntilReadable(within: limit)
  }

  func startZeroCopy() throws(LinuxError) { try link.startZeroCopy() }

  func sendInPlace(_ vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) {
    try link.sendInPlace(vectors, within: limit)
    count(vectors.totalByteCount)
  }

  func awaitZeroCopies(within limit: Duration) throws(LinuxError) { try link.awaitZeroCopies(within: limit) }
  var zeroCopies: ZeroCopyReport { link.zeroCopies }

  func outliveCancellation() -> Bool { link.outliveCancellation() }

  func finish(within limit: Duration) throws(MigrationError) { try link.finish(within: limit) }

  private func count(_ sent: Int) {
    let now = MonotonicClock.now
    let total = state.withLock { (state) -> UInt64? in
      state.byteCount += UInt64(sent)
      guard now >= state.next else { return nil }
      state.next = now + Self.interval
      return state.byteCount
    }
    if let total { tell(total) }
  }
}
